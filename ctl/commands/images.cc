#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/engine/list_rows.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/each_namespace.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "ctl/table.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class ImagesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&all_, "all", 'a', "Intermediate ones too");
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.Bool(&digests_, "digests", 0, "With their digests");
    flags.Bool(&tree_, "tree", 0, "With the platforms of each image");
    flags.Bool(&everywhere_, kAllNamespaces, 0, kAllNamespacesHelp);
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    filters_.AddFlags(flags);
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::ListImagesRequest request;
    request.set_all(all_);
    request.set_manifests(tree_);
    request.set_ids_only(quiet_ && !tree_ && format_.empty());
    request.set_shared_size(absl::StrContains(format_, ".SharedSize") ||
                            absl::StrContains(format_, ".UniqueSize") || format_ == "json");
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    if (!args.empty() && !args[0].empty()) {
      v1::Filter* filter = request.add_filters();
      filter->set_key("reference");
      filter->set_value(args[0]);
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    if (tree_ && everywhere_)
      return absl::InvalidArgumentError("--tree cannot be combined with --all-namespaces");
    if (tree_) {
      v1::ListImagesResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      context.Out(Tree(response));
      return 0;
    }

    const bool with_digests = digests_ || absl::StrContains(format_, ".Digest");
    const absl::Time now = absl::Now();
    std::vector<Value> rows;
    GANTRY_RETURN_IF_ERROR(EachNamespace(*client, everywhere_, [&](Client& one) -> absl::Status {
      v1::ListImagesResponse response;
      GANTRY_RETURN_IF_ERROR(one.Call(request, &response));
      for (const v1::ImageSummary& image : response.images()) {
        if (quiet_ && !rows.empty() && rows.back().Find("FullID")->string() == image.id()) continue;
        std::vector<Value> names = engine::ImageRows(image, with_digests, !no_trunc_, now);
        if (quiet_) names.resize(1);
        for (Value& row : names) {
          if (everywhere_) row.Set("Namespace", one.name_space());
          rows.push_back(std::move(row));
        }
      }
      return absl::OkStatus();
    }));
    Listing listing;
    listing.headings = {{"Repository", "REPOSITORY"},
                        {"Tag", "TAG"},
                        {"Digest", "DIGEST"},
                        {"ID", "IMAGE ID"},
                        {"CreatedSince", "CREATED"},
                        {"CreatedAt", "CREATED AT"},
                        {"Size", "SIZE"},
                        {"SharedSize", "SHARED SIZE"},
                        {"UniqueSize", "UNIQUE SIZE"},
                        {"VirtualSize", "VIRTUAL SIZE"},
                        {"Containers", "CONTAINERS"},
                        {"Labels", "LABELS"},
                        {"FullID", "IMAGE ID"}};
    listing.default_table =
        digests_ ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
                 : "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
    if (everywhere_) {
      listing.headings.emplace_back("Namespace", "NAMESPACE");
      listing.default_table = absl::StrCat("{{.Namespace}}\t", listing.default_table);
    }
    listing.quiet_field = "ID";
    listing.raw = absl::StrCat(
        "repository: {{.Repository}}\n", "tag: {{.Tag}}\n", digests_ ? "digest: {{.Digest}}\n" : "",
        "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n", "virtual_size: {{.Size}}\n");
    GANTRY_ASSIGN_OR_RETURN(std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  std::string Tree(const v1::ListImagesResponse& response) const {
    std::string out = "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tSTATE\n";
    for (const v1::ImageSummary& image : response.images()) {
      const std::string id = no_trunc_ ? image.id() : engine::ShortId(image.id());
      std::string name = "<untagged>";
      if (image.repo_tags_size() > 0) name = image.repo_tags(0);
      absl::StrAppend(&out, name, "\t", id, "\t", engine::HumanSize(image.size_bytes()), "\t",
                      engine::HumanSize(image.content_size_bytes()), "\t",
                      image.has_containers() && image.containers() > 0 ? "in use" : "", "\n");
      for (int i = 1; i < image.repo_tags_size(); ++i) {
        absl::StrAppend(&out, image.repo_tags(i), "\t", id, "\t\t\t\n");
      }
      int shown = 0;
      int count = 0;
      for (const auto& manifest : image.manifests()) count += manifest.attestation() ? 0 : 1;
      for (const auto& manifest : image.manifests()) {
        if (manifest.attestation()) continue;
        ++shown;
        absl::StrAppend(
            &out, shown == count ? "└─ " : "├─ ",
            manifest.platform().empty() ? "unknown" : manifest.platform(), "\t",
            no_trunc_ ? manifest.manifest().digest()
                      : engine::ShortId(manifest.manifest().digest()),
            "\t", engine::HumanSize(manifest.unpacked_size_bytes() + manifest.content_size_bytes()),
            "\t", engine::HumanSize(manifest.content_size_bytes()), "\t",
            !manifest.containers().empty() ? "in use"
            : manifest.unpacked()          ? "unpacked"
            : manifest.available()         ? "complete"
                                           : "not here",
            "\n");
      }
    }
    return AlignColumns(out);
  }

  bool all_ = false, quiet_ = false, no_trunc_ = false, digests_ = false, tree_ = false;
  bool everywhere_ = false;
  std::string format_;
  FilterFlags filters_;
};

}  // namespace

Verb ImagesVerb() {
  return {.name = "images",
          .arguments = "[OPTIONS] [REPOSITORY[:TAG]]",
          .summary = "List images",
          .examples =
              "  ctl images --digests\n"
              "  ctl images --filter dangling=true -q\n"
              "  ctl images --tree debian\n",
          .max_args = 1,
          .completes = "images",
          .make = [] { return std::make_unique<ImagesAction>(); }};
}

}  // namespace gantry::ctl
