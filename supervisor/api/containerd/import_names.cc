#include "supervisor/api/containerd/import_names.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace gantry::api::containerd_api {

bool HasNamePrefix(absl::string_view name, absl::string_view prefix) {
  if (!absl::ConsumePrefix(&name, prefix)) return false;
  return name.empty() || name[0] == ':' || name[0] == '@' || name[0] == '/' ||
         (!prefix.empty() && prefix.back() == '/');
}

ImportNames::ImportNames(const containerd::types::transfer::ImageStore& store)
    : index_name_(store.name()) {
  for (const auto& reference : store.extra_references()) {
    if (!reference.is_prefix()) continue;
    if (prefix_.empty()) prefix_ = reference.name();
    references_.push_back(reference);
  }
}

std::vector<std::string> ImportNames::NamesFor(const std::string& name,
                                               const content::Digest& digest) const {
  std::vector<std::string> names;
  const auto add = [&names](std::string one) {
    if (std::find(names.begin(), names.end(), one) == names.end()) names.push_back(std::move(one));
  };
  if (!name.empty() && (references_.empty() || name == index_name_)) add(name);
  if (name == index_name_ && !name.empty()) return names;
  for (const auto& reference : references_) {
    const bool named =
        !name.empty() && (reference.allow_overwrite() || HasNamePrefix(name, reference.name()));
    if (named) add(name);
    if (reference.add_digest() && !(named && reference.skip_named_digest()))
      add(absl::StrCat(reference.name(), "@", digest.str()));
  }
  return names;
}

}  // namespace gantry::api::containerd_api
