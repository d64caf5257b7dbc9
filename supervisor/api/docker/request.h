// One request of a docker client: what it asks in decoded form, and the ways to answer it.
//
// A handler reads parameters and body, calls core, and answers once. An error that it returns
// before it has answered becomes docker's JSON error; one that it returns in the middle of a
// response cuts the response off.
//
// Belongs to the thread of its connection. context().cancel is cancelled when the client leaves or
// the door stops.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_REQUEST_H_
#define GANTRY_SUPERVISOR_API_DOCKER_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/engine/value.h"
#include "supervisor/api/docker/api_version.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/caller.h"
#include "supervisor/http/server.h"

namespace gantry::api::docker {

// The namespace in which docker's clients work, as ctl does by default.
inline constexpr char kNamespace[] = "default";
// Of a JSON document in a request's body.
inline constexpr size_t kMaxJsonBytes = 4 << 20;

class Request {
 public:
  // `parameters` of the path, decoded.
  Request(http::Exchange& exchange, ApiVersion version, http::Fields parameters);

  ApiVersion version() const { return version_; }
  const http::RequestHead& head() const { return exchange_.head(); }
  http::Exchange& exchange() { return exchange_; }

  // A parameter of the path; "" where the pattern has none of that name.
  const std::string& Path(absl::string_view name) const;
  // The first parameter of the query with that name; "" where there is none.
  const std::string& Query(absl::string_view name) const;
  bool HasQuery(absl::string_view name) const;
  std::vector<std::string> QueryAll(absl::string_view name) const;
  // docker's truth: all but "", 0, no, false and none, in any case. `missing` where there is no
  // such parameter.
  bool Flag(absl::string_view name, bool missing = false) const;
  // nullopt: missing or empty. kInvalidArgument: not a number that 64 bits hold.
  absl::StatusOr<std::optional<int64_t>> Number(absl::string_view name) const;
  // The pairs of the query parameter "filters": {"key":{"value":true}}, or the older
  // {"key":["value"]}. A value that is false in the first form is left out, as docker does.
  using FilterPairs = std::vector<std::pair<std::string, std::string>>;
  absl::StatusOr<FilterPairs> Filters() const;
  // The same as messages.
  template <class RepeatedFilter>
  absl::Status FiltersInto(RepeatedFilter* filters) const {
    absl::StatusOr<FilterPairs> pairs = Filters();
    if (!pairs.ok()) return pairs.status();
    for (auto& [key, value] : *pairs) {
      auto* filter = filters->Add();
      filter->set_key(std::move(key));
      filter->set_value(std::move(value));
    }
    return absl::OkStatus();
  }

  // The JSON document in the body; null where the body is empty.
  //   kInvalidArgument  not JSON, more than one document, a key twice, another content type, or
  //                     more than kMaxJsonBytes
  absl::StatusOr<engine::Value> Json();
  // The body as it arrives, for archives. Valid as long as this.
  ByteSource& body() { return body_; }

  // For calls that end when the client leaves.
  core::CallContext context() { return {kNamespace, "", &cancel_, caller_}; }
  // For calls that are carried out whether the client waits for it or not.
  core::CallContext lasting() const { return {kNamespace, "", nullptr, caller_}; }
  CancelToken& cancel() { return cancel_; }

  // ---- answers ----

  absl::Status Reply(int status, const engine::Value& document);
  // `text` is JSON.
  absl::Status ReplyJson(int status, absl::string_view text);
  absl::Status ReplyEmpty(int status);
  absl::Status ReplyText(int status, absl::string_view text);
  // {"message": ...}. The status is that of `error` in the one table.
  absl::Status ReplyError(const absl::Status& error);
  absl::Status ReplyError(int status, absl::string_view message);
  // Further header fields of the answer, before it is given.
  void AddField(std::string name, std::string value);
  // An answer in pieces: a tar, log frames, one document after the other. Sends the header at once.
  absl::Status Begin(int status, absl::string_view content_type);
  // One document and a line end, sent at once.
  absl::Status Write(const engine::Value& document);
  absl::Status WriteBytes(absl::string_view bytes) { return exchange_.Write(bytes); }
  absl::Status End() { return exchange_.End(); }
  // The rest of an answer that was begun.
  ByteSink& out() { return out_; }
  // Takes the connection; see hijack.h. From then on its client's departure shows there only.
  absl::StatusOr<http::Hijacked> Hijack();

 private:
  class BodySource : public ByteSource {
   public:
    explicit BodySource(http::Exchange& exchange) : exchange_(exchange) {}
    absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
      return exchange_.ReadBody(buffer, n);
    }

   private:
    http::Exchange& exchange_;
  };
  class OutSink : public ByteSink {
   public:
    explicit OutSink(http::Exchange& exchange) : exchange_(exchange) {}
    absl::Status Write(absl::string_view bytes) override { return exchange_.Write(bytes); }

   private:
    http::Exchange& exchange_;
  };

  http::Fields FieldsOf(absl::string_view content_type) const;

  http::Exchange& exchange_;
  const ApiVersion version_;
  const http::Fields parameters_;
  const http::Fields query_;
  const core::Caller caller_;
  http::Fields fields_;
  BodySource body_;
  OutSink out_;
  CancelToken cancel_;
  http::PeerWatch::Watch watch_;  // ends before the token
};

// The body of an answer whose header goes out with the first byte, so that an error before it is
// answered as one.
class LateBody : public ByteSink {
 public:
  LateBody(Request& request, absl::string_view content_type)
      : request_(request), content_type_(content_type) {}
  absl::Status Write(absl::string_view bytes) override;
  absl::Status End();

 private:
  absl::Status BeginOnce();

  Request& request_;
  const std::string content_type_;
  bool begun_ = false;
};

// The header fields that every answer has.
http::Fields CommonFields();

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_REQUEST_H_
