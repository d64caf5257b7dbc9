#include "ctl/commands/build_target.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/byte_stream.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"
#include "ctl/commands/build_fields.h"
#include "ctl/terminal.h"

namespace gantry::ctl {
namespace {

// docker's short forms: a directory, or - for a tar.
std::map<std::string, std::string> OutputFields(const std::string& text) {
  if (absl::StrContains(text, '=')) return FieldsOf(text);
  if (text == "-") return {{"type", "tar"}, {"dest", "-"}};
  return {{"type", "local"}, {"dest", text}};
}

}  // namespace

absl::Status BuildTarget::Parse(const std::string& text, v1::BuildOutput& output, Place& place) {
  const std::string flag = absl::StrCat("--output ", text);
  std::map<std::string, std::string> fields = OutputFields(text);
  const auto take = [&](const char* key) {
    const auto found = fields.find(key);
    std::string value = found == fields.end() ? "" : found->second;
    if (found != fields.end()) fields.erase(found);
    return value;
  };
  const std::string type = take("type");
  const bool named = fields.count("dest") > 0;
  const std::string destination = take("dest");
  GANTRY_ASSIGN_OR_RETURN(const bool tar, TakeSwitch(flag, fields, "tar", true));
  if (type == "image" || type == "registry") {
    GANTRY_ASSIGN_OR_RETURN(const bool push, TakeSwitch(flag, fields, "push", type == "registry"));
    output.set_push(push);
    GANTRY_ASSIGN_OR_RETURN(const bool store, TakeSwitch(flag, fields, "store", true));
    output.set_no_store(!store);
    GANTRY_ASSIGN_OR_RETURN(const bool by_digest,
                            TakeSwitch(flag, fields, "push-by-digest", false));
    output.set_push_by_digest(by_digest);
  } else if (type == "docker") {
    // Without a place it is the image store, which is where docker would load it to.
    if (named) {
      output.set_kind(v1::BuildOutput::DOCKER);
      place.destination = destination;
      place.into_directory = !tar;
    }
  } else if (type == "oci") {
    output.set_kind(v1::BuildOutput::OCI);
    place.destination = named ? destination : "-";
    place.into_directory = !tar;
  } else if (type == "tar" || type == "local") {
    output.set_kind(v1::BuildOutput::FILES);
    place.destination = named ? destination : "-";
    place.into_directory = type == "local";
    GANTRY_ASSIGN_OR_RETURN(const bool split, TakeSwitch(flag, fields, "platform-split", false));
    output.set_platform_split(split);
  } else if (type == "cacheonly") {
    output.set_kind(v1::BuildOutput::NONE);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": type=", type,
                     ": there is image, registry, docker, oci, tar, local and cacheonly"));
  }
  if (place.into_directory && (place.destination.empty() || place.destination == "-"))
    return absl::InvalidArgumentError(absl::StrCat(flag, ": name a directory with dest="));
  GANTRY_RETURN_IF_ERROR(TakeForm(flag, fields, output));
  GANTRY_ASSIGN_OR_RETURN(const bool rewrite, TakeSwitch(flag, fields, "rewrite-timestamp", false));
  output.set_rewrite_timestamp(rewrite);
  const std::string names = take("name");
  for (const absl::string_view name : absl::StrSplit(names, ',', absl::SkipEmpty()))
    output.add_names(std::string(absl::StripAsciiWhitespace(name)));
  for (auto field = fields.begin(); field != fields.end();) {
    absl::string_view key = field->first;
    if (absl::ConsumePrefix(&key, "annotation.") || absl::ConsumePrefix(&key, "annotation-")) {
      // "annotation-index.KEY" and the like.
      for (const absl::string_view kind :
           {"manifest-descriptor", "index-descriptor", "manifest", "index"}) {
        absl::string_view rest = key;
        if (!absl::StartsWith(field->first, "annotation-") || !absl::ConsumePrefix(&rest, kind) ||
            !absl::ConsumePrefix(&rest, "."))
          continue;
        (*output.mutable_annotations())[absl::StrCat(kind, ":", rest)] = field->second;
        key = "";
        break;
      }
      if (!key.empty()) (*output.mutable_annotations())[std::string(key)] = field->second;
      field = fields.erase(field);
    } else {
      ++field;
    }
  }
  return NoMore(flag, fields,
                "type, dest, tar, name, push, push-by-digest, store, compression, "
                "compression-level, force-compression, oci-mediatypes, rewrite-timestamp, "
                "platform-split, registry.insecure and annotation.KEY");
}

absl::Status BuildTarget::AddOutputs(const std::vector<std::string>& outputs, bool push,
                                     v1::BuildRequest::Open& open) {
  places_.resize(std::max<size_t>(outputs.size(), 1));
  for (size_t i = 0; i < outputs.size(); ++i) {
    v1::BuildOutput& output = i == 0 ? *open.mutable_output() : *open.add_more_outputs();
    GANTRY_RETURN_IF_ERROR(Parse(outputs[i], output, places_[i]));
    pushes_ = pushes_ || output.push();
    for (size_t other = 0; other < i; ++other) {
      if (places_[i].destination == "-" && places_[other].destination == "-")
        return absl::InvalidArgumentError("--output: only one of several can go to stdout");
    }
  }
  if (push && !pushes_) {
    if (open.output().kind() != v1::BuildOutput::IMAGE)
      return absl::InvalidArgumentError("--push: not with an --output that is not an image");
    open.mutable_output()->set_push(true);
    pushes_ = true;
  }
  return absl::OkStatus();
}

absl::Status BuildTarget::AddCaches(const std::vector<std::string>& caches,
                                    v1::BuildRequest::Open& open) {
  for (const std::string& text : caches) {
    std::string directory;
    GANTRY_ASSIGN_OR_RETURN(*open.add_cache_to(), ParseCachePlace(text, false, directory));
    Place& place = places_.emplace_back();
    place.destination = directory;
    place.into_directory = true;
  }
  return absl::OkStatus();
}

absl::Status BuildTarget::Write(Context& context, uint32_t number, const std::string& bytes) {
  if (number >= places_.size() || places_[number].destination.empty())
    return absl::InternalError(
        absl::StrCat("the daemon sent bytes for place ", number, ", where none were asked for"));
  Place& place = places_[number];
  if (place.destination == "-") {
    if (IsTerminal(context.out_fd()))
      return absl::InvalidArgumentError(
          "stdout is a terminal; redirect it, or name a file with dest=");
    context.OutRaw(bytes);
    return absl::OkStatus();
  }
  if (!place.file_out.valid() && place.into_directory) {
    // Taken apart when all of it is there.
    GANTRY_RETURN_IF_ERROR(MakeDirectories(place.destination));
    place.file_out =
        UniqueFd(open(place.destination.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  } else if (!place.file_out.valid()) {
    place.file_out =
        UniqueFd(open(place.destination.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  }
  if (!place.file_out.valid()) return ErrnoToStatus(errno, place.destination);
  return WriteAll(place.file_out.get(), bytes);
}

absl::Status BuildTarget::Finish() {
  for (Place& place : places_) {
    if (!place.into_directory || !place.file_out.valid()) continue;
    if (lseek(place.file_out.get(), 0, SEEK_SET) != 0)
      return ErrnoToStatus(errno, place.destination);
    const UniqueFd directory(open(place.destination.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid()) return ErrnoToStatus(errno, place.destination);
    FdSource tar(place.file_out.get());
    ExtractOptions options;
    options.owner =
        geteuid() == 0 ? ExtractOptions::Owner::kArchive : ExtractOptions::Owner::kCaller;
    GANTRY_RETURN_IF_ERROR(ExtractTree(tar, directory.get(), options).status());
  }
  return absl::OkStatus();
}

}  // namespace gantry::ctl
