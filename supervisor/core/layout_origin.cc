#include "supervisor/core/layout_origin.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/errno_status.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

constexpr char kRefName[] = "org.opencontainers.image.ref.name";
constexpr char kImageName[] = "io.containerd.image.name";

absl::StatusOr<UniqueFd> OpenFile(int directory, const std::string& path, const std::string& name,
                                  int64_t& size_bytes) {
  UniqueFd file = OpenInRoot(directory, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      return absl::NotFoundError(absl::StrCat("OCI layout ", name, ": there is no ", path));
    return ErrnoToStatus(errno, absl::StrCat("OCI layout ", name, ": ", path));
  }
  if (!S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(
        absl::StrCat("OCI layout ", name, ": ", path, " is not a regular file"));
  size_bytes = info.st_size;
  return file;
}

}  // namespace

absl::StatusOr<content::Descriptor> FindInLayoutIndex(absl::string_view text,
                                                      const std::string& tag,
                                                      const std::string& name) {
  GANTRY_ASSIGN_OR_RETURN(
      const oci::Index index,
      oci::ParseIndex(text, oci::kOciIndex, absl::StrCat("index.json of OCI layout ", name)));
  const content::Descriptor* latest = nullptr;
  std::vector<std::string> tags;
  for (const content::Descriptor& one : index.manifests) {
    std::string own;
    for (const char* key : {kRefName, kImageName}) {
      const auto found = one.annotations.find(key);
      if (found == one.annotations.end()) continue;
      if (own.empty()) own = found->second;
      const bool same = found->second == tag || absl::EndsWith(found->second, ":" + tag);
      if (!tag.empty() && same) return one;
      if (found->second == "latest") latest = &one;
    }
    if (!own.empty()) tags.push_back(std::move(own));
  }
  if (tag.empty() && latest != nullptr) return *latest;
  if (tag.empty() && index.manifests.size() == 1) return index.manifests[0];
  if (index.manifests.empty())
    return absl::NotFoundError(absl::StrCat("OCI layout ", name, " holds nothing"));
  return absl::NotFoundError(absl::StrCat(
      "OCI layout ", name, ": ", tag.empty() ? "it holds several; name one by its tag" : "no tag ",
      tag, "; there is ", tags.empty() ? "none" : absl::StrJoin(tags, ", ")));
}

absl::StatusOr<content::Descriptor> LayoutOrigin::Root(CancelToken* cancel) {
  int64_t size_bytes = 0;
  if (!digest_.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const content::Digest digest, content::Digest::Parse(digest_));
    const std::string path = absl::StrCat("blobs/", digest.algorithm(), "/", digest.hex());
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(directory_, path, name_, size_bytes));
    FdSource source(file.get());
    GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadAll(source, oci::kMaxManifestBytes));
    GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                            oci::ParseDocument(text, "", digest.str()));
    content::Descriptor root;
    root.media_type =
        document.index.has_value() ? document.index->media_type : document.manifest->media_type;
    root.digest = digest;
    root.size_bytes = size_bytes;
    return root;
  }
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd file,
                          OpenFile(directory_, "index.json", name_, size_bytes));
  FdSource source(file.get());
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadAll(source, oci::kMaxManifestBytes));
  return FindInLayoutIndex(text, tag_, name_);
}

absl::StatusOr<std::unique_ptr<ByteSource>> LayoutOrigin::Open(const content::Descriptor& blob,
                                                               CancelToken*) {
  class File : public ByteSource {
   public:
    explicit File(UniqueFd file) : file_(std::move(file)), source_(file_.get()) {}
    absl::StatusOr<size_t> Read(char* buffer, size_t n) override { return source_.Read(buffer, n); }

   private:
    const UniqueFd file_;
    FdSource source_;
  };
  int64_t size_bytes = 0;
  const std::string path = absl::StrCat("blobs/", blob.digest.algorithm(), "/", blob.digest.hex());
  GANTRY_ASSIGN_OR_RETURN(UniqueFd file, OpenFile(directory_, path, name_, size_bytes));
  return std::unique_ptr<ByteSource>(std::make_unique<File>(std::move(file)));
}

}  // namespace gantry::core
