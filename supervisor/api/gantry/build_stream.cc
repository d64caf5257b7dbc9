#include "supervisor/api/gantry/build_stream.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "supervisor/build/context_store.h"

namespace gantry::api::gantry_v1 {
namespace {

constexpr size_t kIndexesInMessage = 64 << 10;
constexpr int64_t kProgressBytes = 1 << 20;

absl::Status Unexpected(const v1::BuildRequest& message, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("message ", static_cast<int>(message.part_case()),
                                                 " came where the ", wanted,
                                                 " of the context were expected"));
}

}  // namespace

std::string StreamedBuildClient::ContextKey(int index) const {
  if (index == 0) return request_.context_key();
  if (index > request_.contexts_size()) return "";
  return request_.contexts(index - 1).key();
}

absl::Status StreamedBuildClient::Want(int index, build::ContextUpdate& update, size_t& wanted) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<uint32_t> indexes, update.Wanted());
  wanted = indexes.size();
  size_t at = 0;
  do {
    v1::BuildResponse response;
    v1::ContextWants& wants = *response.mutable_wants();
    wants.set_context(static_cast<uint32_t>(index));
    for (size_t end = std::min(indexes.size(), at + kIndexesInMessage); at < end; ++at)
      wants.add_indexes(indexes[at]);
    wants.set_last(at == indexes.size());
    GANTRY_RETURN_IF_ERROR(stream_.send(std::move(response)));
  } while (at < indexes.size());
  return absl::OkStatus();
}

absl::Status StreamedBuildClient::Update(int index, build::ContextUpdate& update,
                                         CancelToken* cancel,
                                         const std::function<void(int64_t)>& progress) {
  v1::BuildRequest message;
  bool last = false;
  while (!last) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    GANTRY_ASSIGN_OR_RETURN(const bool some, stream_.next(message));
    if (!some) return absl::DataLossError("the client ended before its listing");
    if (!message.has_entries() || message.entries().context() != static_cast<uint32_t>(index))
      return Unexpected(message, "entries");
    for (const v1::ContextEntry& entry : message.entries().entries())
      GANTRY_RETURN_IF_ERROR(update.Add(entry));
    last = message.entries().last();
  }
  size_t left = 0;
  GANTRY_RETURN_IF_ERROR(Want(index, update, left));
  int64_t told = 0;
  while (left > 0) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    GANTRY_ASSIGN_OR_RETURN(const bool some, stream_.next(message));
    if (!some) return absl::DataLossError("the client ended before its files");
    if (!message.has_contents() || message.contents().context() != static_cast<uint32_t>(index))
      return Unexpected(message, "contents");
    for (const v1::ContextContent& content : message.contents().contents()) {
      GANTRY_RETURN_IF_ERROR(update.Write(content.index(), content.data()));
      if (!content.end()) continue;
      GANTRY_RETURN_IF_ERROR(update.Close(content.index(), content.missing()));
      --left;
    }
    if (progress && (update.received_bytes() - told >= kProgressBytes || left == 0)) {
      told = update.received_bytes();
      progress(told);
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::api::gantry_v1
