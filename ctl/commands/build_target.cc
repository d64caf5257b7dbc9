#include "ctl/commands/build_target.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/byte_stream.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/tar/tree_extractor.h"
#include "ctl/terminal.h"

namespace gantry::ctl {

std::map<std::string, std::string> FieldsOf(const std::string& text) {
  std::map<std::string, std::string> fields;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> field = absl::StrSplit(part, absl::MaxSplits('=', 1));
    fields[field.first] = field.second;
  }
  return fields;
}

absl::Status BuildTarget::Parse(const std::string& output_text, v1::BuildRequest::Open& open) {
  if (output_text.empty()) return absl::OkStatus();
  if (!absl::StrContains(output_text, '=')) {
    // docker's short form: a directory, or - for a tar.
    open.mutable_output()->set_kind(v1::BuildOutput::FILES);
    destination_ = output_text;
    into_directory_ = output_text != "-";
    return absl::OkStatus();
  }
  std::map<std::string, std::string> fields = FieldsOf(output_text);
  for (const auto& [key, value] : fields) {
    if (key != "type" && key != "dest" && key != "push")
      return absl::InvalidArgumentError(
          absl::StrCat("--output: \"", key, "\" is not supported; there is type, dest and push"));
  }
  const std::string type = fields["type"];
  destination_ = fields.count("dest") > 0 ? fields["dest"] : "-";
  if (type == "image") {
    destination_.clear();
    push_ = push_ || fields["push"] == "true" || fields["push"] == "1";
  } else if (type == "registry") {
    destination_.clear();
    push_ = true;
  } else if (type == "docker") {
    if (fields.count("dest") == 0) {
      destination_.clear();
      return absl::OkStatus();
    }
    open.mutable_output()->set_kind(v1::BuildOutput::DOCKER);
  } else if (type == "oci") {
    open.mutable_output()->set_kind(v1::BuildOutput::OCI);
  } else if (type == "tar" || type == "local") {
    open.mutable_output()->set_kind(v1::BuildOutput::FILES);
    into_directory_ = type == "local";
    if (into_directory_ && fields["dest"].empty())
      return absl::InvalidArgumentError("--output type=local: name a directory with dest=");
  } else if (type == "cacheonly") {
    open.mutable_output()->set_kind(v1::BuildOutput::NONE);
    destination_.clear();
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("--output type=", type,
                     ": there is image, registry, docker, oci, tar, local and cacheonly"));
  }
  return absl::OkStatus();
}

absl::Status BuildTarget::Write(Context& context, const std::string& bytes) {
  if (destination_ == "-") {
    if (IsTerminal(context.out_fd()))
      return absl::InvalidArgumentError(
          "stdout is a terminal; redirect it, or name a file with dest=");
    context.OutRaw(bytes);
    return absl::OkStatus();
  }
  if (into_directory_ && !file_out_.valid()) {
    // Taken apart when all of it is there.
    GANTRY_RETURN_IF_ERROR(MakeDirectories(destination_));
    file_out_ = UniqueFd(open(destination_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!file_out_.valid()) return ErrnoToStatus(errno, destination_);
  }
  if (!file_out_.valid()) {
    file_out_ =
        UniqueFd(open(destination_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file_out_.valid()) return ErrnoToStatus(errno, destination_);
  }
  return WriteAll(file_out_.get(), bytes);
}

absl::Status BuildTarget::Finish() {
  if (!into_directory_ || !file_out_.valid()) return absl::OkStatus();
  if (lseek(file_out_.get(), 0, SEEK_SET) != 0) return ErrnoToStatus(errno, destination_);
  const UniqueFd directory(open(destination_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return ErrnoToStatus(errno, destination_);
  FdSource tar(file_out_.get());
  ExtractOptions options;
  options.owner = geteuid() == 0 ? ExtractOptions::Owner::kArchive : ExtractOptions::Owner::kCaller;
  return ExtractTree(tar, directory.get(), options).status();
}

}  // namespace gantry::ctl
