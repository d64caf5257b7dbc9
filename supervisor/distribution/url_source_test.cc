#include "supervisor/distribution/url_source.h"

#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::distribution {
namespace {

using ::testing::HasSubstr;

class UrlSourceTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Get(const std::string& path) {
    absl::StatusOr<std::unique_ptr<UrlSource>> source =
        UrlSource::Open(*http_, server_.origin() + path, &cancel_);
    if (!source.ok()) return source.status();
    return ReadAll(**source, 64 << 20);
  }

  FakeRegistry server_;
  const std::unique_ptr<HttpClient> http_ = NewCurlHttpClient(CurlHttpClientOptions());
  CancelToken cancel_;
};

TEST_F(UrlSourceTest, ABodyLargerThanAnyBufferArrivesWhole) {
  const std::string body(8 << 20, 'x');
  server_.SetHook(
      [&body](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
        if (request.path == "/moved")
          return connection.Answer(302, {{"Location", "/there"}}, "moved");
        return connection.Answer(200, {}, body);
      });
  EXPECT_EQ(Get("/there").value(), body);
  EXPECT_EQ(Get("/moved").value(), body);
}

TEST_F(UrlSourceTest, WhatTheServerRefusesIsSaidBeforeTheBody) {
  server_.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.path == "/round") return connection.Answer(302, {{"Location", "/round"}}, "");
    return connection.Answer(request.path == "/secret" ? 403 : 404, {}, "no");
  });
  EXPECT_TRUE(absl::IsPermissionDenied(Get("/secret").status()));
  const absl::Status absent = Get("/absent?token=x").status();
  EXPECT_TRUE(absl::IsNotFound(absent)) << absent;
  EXPECT_THAT(std::string(absent.message()), HasSubstr(server_.origin() + "/absent: 404"));
  EXPECT_THAT(std::string(Get("/round").status().message()), HasSubstr("redirects"));
  EXPECT_TRUE(absl::IsInvalidArgument(UrlSource::Open(*http_, "ftp://host/x", &cancel_).status()));
}

TEST_F(UrlSourceTest, ATransferThatBreaksIsAnError) {
  server_.SetHook([](const FakeRegistry::Request&, FakeRegistry::Connection& connection) {
    connection.Raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    connection.Close();
    return true;
  });
  EXPECT_FALSE(Get("/broken").ok());
}

TEST_F(UrlSourceTest, AReaderThatLeavesEndsTheTransfer) {
  std::atomic<bool> ended{false};
  server_.SetHook([&ended](const FakeRegistry::Request&, FakeRegistry::Connection& connection) {
    connection.Raw("HTTP/1.1 200 OK\r\n\r\n");
    const std::string piece(64 << 10, 'x');
    while (!connection.stopping() && connection.Raw(piece)) {
    }
    ended = true;
    return true;
  });
  {
    absl::StatusOr<std::unique_ptr<UrlSource>> source =
        UrlSource::Open(*http_, server_.origin() + "/endless", &cancel_);
    ASSERT_TRUE(source.ok()) << source.status();
    char buffer[100];
    EXPECT_TRUE((*source)->Read(buffer, sizeof buffer).ok());
  }
  while (!ended) std::this_thread::yield();
}

}  // namespace
}  // namespace gantry::distribution
