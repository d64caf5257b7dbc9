// For fuzzers: a request with a query, a body and one header, whose answer nobody reads.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_FUZZ_EXCHANGE_H_
#define GANTRY_SUPERVISOR_API_DOCKER_FUZZ_EXCHANGE_H_

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/http/server.h"

namespace gantry::api::docker {

// A request whose answer nobody reads.
class FuzzExchange final : public http::Exchange {
 public:
  FuzzExchange(absl::string_view query, absl::string_view body,
               std::pair<std::string, std::string> field = {})
      : body_(body) {
    head_.method = "POST";
    head_.query = std::string(query);
    head_.has_body = true;
    head_.fields = {{"content-type", "application/json"}};
    if (!field.first.empty()) head_.fields.push_back(std::move(field));
  }
  const http::RequestHead& head() const override { return head_; }
  absl::StatusOr<size_t> ReadBody(char* buffer, size_t size) override {
    const size_t n = std::min(size, body_.size());
    body_.copy(buffer, n);
    body_.remove_prefix(n);
    return n;
  }
  absl::Status Respond(int, const http::Fields&, absl::string_view) override {
    return absl::OkStatus();
  }
  absl::Status Begin(int, const http::Fields&, std::optional<uint64_t>) override {
    return absl::OkStatus();
  }
  absl::Status Write(absl::string_view) override { return absl::OkStatus(); }
  absl::Status End() override { return absl::OkStatus(); }
  bool begun() const override { return false; }
  void CloseAfter() override {}
  bool stopping() const override { return false; }
  absl::StatusOr<http::Hijacked> Hijack() override { return absl::UnimplementedError("none"); }
  http::PeerWatch::Watch OnGone(std::function<void()>) override { return {}; }
  http::Transport& transport() override { return transport_; }
  void AnsweredRaw() override {}

 private:
  // Without a socket, and so without a caller who could be named.
  class NoTransport final : public http::Transport {
   public:
    absl::StatusOr<size_t> Read(char*, size_t, absl::Duration) override { return 0; }
    absl::Status Write(absl::string_view, absl::Duration, absl::Duration) override {
      return absl::OkStatus();
    }
    void Close() override {}
    void Break() override {}
    UniqueFd Release() override { return {}; }
  };

  http::RequestHead head_;
  absl::string_view body_;
  NoTransport transport_;
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_FUZZ_EXCHANGE_H_
