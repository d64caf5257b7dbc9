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
    if (!reference.is_prefix() || reference.add_digest()) index_references_.push_back(reference);
    if (!reference.is_prefix()) continue;
    if (prefix_.empty()) prefix_ = reference.name();
    references_.push_back(reference);
  }
}

namespace {

void Add(std::string name, std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
}

}  // namespace

bool ImportNames::names_index() const { return !index_name_.empty() || !index_references_.empty(); }

std::vector<std::string> ImportNames::IndexNames(const content::Digest& digest) const {
  std::vector<std::string> names;
  if (!index_name_.empty()) Add(index_name_, names);
  for (const auto& reference : index_references_) {
    Add(reference.add_digest() ? absl::StrCat(reference.name(), "@", digest.str())
                               : reference.name(),
        names);
  }
  return names;
}

std::vector<std::string> ImportNames::NamesFor(const std::string& name,
                                               const content::Digest& digest) const {
  std::vector<std::string> names;
  if (!name.empty() && references_.empty()) Add(name, names);
  for (const auto& reference : references_) {
    const bool named =
        !name.empty() && (reference.allow_overwrite() || HasNamePrefix(name, reference.name()));
    if (named) Add(name, names);
    if (reference.add_digest() && !(named && reference.skip_named_digest()))
      Add(absl::StrCat(reference.name(), "@", digest.str()), names);
  }
  return names;
}

}  // namespace gantry::api::containerd_api
