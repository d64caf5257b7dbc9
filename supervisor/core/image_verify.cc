#include "supervisor/core/image_verify.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

constexpr size_t kPiece = 1 << 20;
// As long as what an interrupted pull has got, which this is to the next pull of the name.
constexpr absl::Duration kUnrepairedPatience = absl::Hours(24);

// Puts what a blob refers to into the care of the lease: the labels that kept it are gone.
absl::Status HoldChildren(metadata::LeaseStore& leases, const metadata::Scope& scope,
                          const content::Labels& labels) {
  for (const auto& [label, child] : labels) {
    absl::string_view kind = label;
    if (!absl::ConsumePrefix(&kind, "containerd.io/gc.ref.")) continue;
    metadata::LeaseResource resource = {.type = "", .id = child};
    if (absl::ConsumePrefix(&kind, "snapshot.")) {
      resource.type = absl::StrCat(metadata::kSnapshotResource, kind.substr(0, kind.find('/')));
    } else if (absl::StartsWith(kind, "content")) {
      resource.type = std::string(metadata::kContentResource);
    } else {
      continue;
    }
    GANTRY_RETURN_IF_ERROR(
        leases.AddResource({scope.ns, ""}, scope.lease, resource, metadata::Durability::kBuffered));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::VerifyResponse::Result> ImageVerify::Verify(
    const CallContext& context, const v1::VerifyRequest& request,
    const std::function<void(const v1::VerifyResponse::Finding&)>& found,
    const ProgressFn& progress) {
  Stores& stores = *parts_.stores;
  CallToken token(context.cancel);
  std::map<std::string, record::v1::Image> wanted;
  if (request.images().empty()) {
    GANTRY_RETURN_IF_ERROR(stores.images.List({context.ns, ""}, metadata::Filter(),
                                              [&](const record::v1::Image& record) {
                                                wanted.emplace(record.name(), record);
                                                return absl::OkStatus();
                                              }));
  }
  for (const std::string& text : request.images()) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                            parts_.catalog->Find(context, text));
    wanted.emplace(records.front().name(), records.front());
  }
  // What is being looked at stays until it has been: an image removed meanwhile is not reported as
  // damaged.
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope held, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  for (const auto& [name, record] : wanted) {
    GANTRY_RETURN_IF_ERROR(stores.leases.AddResource(
        {context.ns, ""}, held.scope().lease,
        {.type = std::string(metadata::kContentResource), .id = record.target().digest()},
        metadata::Durability::kBuffered));
  }
  metadata::ContentNamespace content = stores.Content({context.ns, ""});
  v1::VerifyResponse::Result result;
  std::set<content::Digest> seen;
  std::vector<char> piece(kPiece);
  for (const auto& [name, record] : wanted) {
    result.set_images(result.images() + 1);
    content::Descriptor target;
    target.media_type = record.target().media_type();
    target.size_bytes = record.target().size();
    GANTRY_ASSIGN_OR_RETURN(target.digest, content::Digest::Parse(record.target().digest()));
    // Children of a manifest that is itself damaged are found once it is repaired.
    std::vector<content::Descriptor> todo = {target};
    while (!todo.empty()) {
      GANTRY_RETURN_IF_ERROR((*token).Check());
      content::Descriptor blob = todo.back();
      todo.pop_back();
      if (!seen.insert(blob.digest).second) continue;
      auto check = [&]() -> std::string {
        absl::StatusOr<std::unique_ptr<content::BlobReader>> reader = content.Open(blob.digest);
        if (!reader.ok())
          return absl::IsNotFound(reader.status()) ? "missing"
                                                   : std::string(reader.status().message());
        if (blob.size_bytes > 0 && (*reader)->size_bytes() != blob.size_bytes) {
          return absl::StrCat("has ", (*reader)->size_bytes(), " bytes, not ", blob.size_bytes);
        }
        content::Hasher hasher(blob.digest.algorithm());
        for (int64_t offset = 0; offset < (*reader)->size_bytes();) {
          absl::StatusOr<size_t> n = (*reader)->ReadAt(offset, piece.data(), piece.size());
          if (!n.ok()) return std::string(n.status().message());
          if (*n == 0) return "shorter than its own length says";
          hasher.Update(absl::string_view(piece.data(), *n));
          offset += static_cast<int64_t>(*n);
          result.set_bytes(result.bytes() + static_cast<int64_t>(*n));
        }
        return hasher.Current() == blob.digest
                   ? ""
                   : absl::StrCat("its bytes hash to ", hasher.Current().str());
      };
      const bool child_of_index = blob.platform.has_value() && oci::IsManifestType(blob.media_type);
      if (!content.Stat(blob.digest).ok() &&
          (child_of_index || (parts_.discard_blobs && oci::IsLayerType(blob.media_type)))) {
        continue;  // another platform's image that was never fetched, or a layer that the policy discards
      }
      result.set_blobs(result.blobs() + 1);
      std::string problem = check();
      if (progress) {
        v1::Progress step;
        step.set_id(blob.digest.str());
        step.set_state(v1::Progress::VERIFYING);
        step.set_current_bytes(blob.size_bytes);
        step.set_total_bytes(blob.size_bytes);
        progress(step);
      }
      if (!problem.empty()) {
        result.set_damaged(result.damaged() + 1);
        v1::VerifyResponse::Finding finding;
        finding.set_image(name);
        finding.set_digest(blob.digest.str());
        finding.set_problem(problem);
        if (request.repair()) {
          absl::Status repaired = [&, image_name = name]() -> absl::Status {
            GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                                    distribution::Reference::Parse(image_name));
            GANTRY_ASSIGN_OR_RETURN(
                LeaseScope lease,
                LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
            metadata::ContentNamespace leased = stores.Content(lease.scope());
            absl::StatusOr<content::Info> before = content.Stat(blob.digest);
            absl::Status dropped = content.Delete(blob.digest);
            if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
            // The damaged bytes themselves: no namespace may take them over again.
            dropped = stores.blobs.files().Delete(blob.digest);
            if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
            RegistryCall call(request.auth(), reference.domain(), parts_.credentials, token.get());
            const absl::Status fetched = parts_.puller->FetchOne(
                reference, blob, leased, distribution::PullOptions(), call.context);
            if (!fetched.ok()) {
              // The rest of the image must not go with it: the registry may be back later.
              if (before.ok())
                GANTRY_RETURN_IF_ERROR(HoldChildren(stores.leases, lease.scope(), before->labels));
              GANTRY_RETURN_IF_ERROR(lease.Keep(
                  stores.clock, absl::StrCat("pull ", reference.canonical()), kUnrepairedPatience));
              return fetched;
            }
            if (before.ok() && !before->labels.empty()) {
              GANTRY_RETURN_IF_ERROR(leased.Update(blob.digest, before->labels, {}).status());
            }
            return absl::OkStatus();
          }();
          finding.set_repaired(repaired.ok());
          if (repaired.ok()) {
            result.set_repaired(result.repaired() + 1);
            problem.clear();
          } else {
            finding.set_problem(absl::StrCat(problem, "; repair: ", repaired.message()));
          }
        }
        found(finding);
      }
      if (!problem.empty() ||
          (!oci::IsIndexType(blob.media_type) && !oci::IsManifestType(blob.media_type)))
        continue;
      GANTRY_ASSIGN_OR_RETURN(std::string bytes,
                              content::ReadBlob(content, blob.digest, oci::kMaxManifestBytes));
      GANTRY_ASSIGN_OR_RETURN(oci::Document document,
                              oci::ParseDocument(bytes, blob.media_type, name));
      const std::vector<content::Descriptor> children = oci::Children(document);
      todo.insert(todo.end(), children.begin(), children.end());
      if (document.index.has_value() &&
          std::none_of(children.begin(), children.end(), [&](const content::Descriptor& child) {
            return content.Stat(child.digest).ok();
          })) {
        // Platforms may be left out, but not all of them.
        result.set_damaged(result.damaged() + 1);
        v1::VerifyResponse::Finding finding;
        finding.set_image(name);
        finding.set_digest(blob.digest.str());
        finding.set_problem("none of the images of this index is here; pull it again");
        found(finding);
      }
    }
  }
  return result;
}

}  // namespace gantry::core
