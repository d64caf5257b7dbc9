#include "supervisor/api/containerd/raw_message.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "proto/containerd/services/content/v1/content.pb.h"

namespace gantry::api::containerd_api {
namespace {

using containerd::services::content::v1::WriteContentRequest;

constexpr int kData = WriteContentRequest::kDataFieldNumber;

// `bytes` as they may come from a socket: in slices of `size`.
grpc::ByteBuffer Sliced(const std::string& bytes, size_t size) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += size) slices.emplace_back(bytes.substr(at, size));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

WriteContentRequest Request(const std::string& data) {
  WriteContentRequest request;
  request.set_action(containerd::services::content::v1::COMMIT);
  request.set_ref("ref");
  request.set_offset(77);
  request.set_data(data);
  (*request.mutable_labels())["key"] = "value";
  return request;
}

TEST(RawMessageTest, TheBytesStayInTheSlicesTheyCameIn) {
  const std::string data(100000, 'x');
  for (const size_t size : {1ul, 7ul, 4096ul, 1000000ul}) {
    WriteContentRequest parsed;
    MessageWithBytes out;
    ASSERT_TRUE(
        ParseAround(Sliced(Request(data).SerializeAsString(), size), kData, &parsed, &out).ok());
    EXPECT_EQ(absl::StrJoin(out.bytes, ""), data);
    EXPECT_EQ(out.size_bytes, 100000u);
    EXPECT_EQ(parsed.ref(), "ref");
    EXPECT_EQ(parsed.offset(), 77);
    EXPECT_EQ(parsed.labels().at("key"), "value");
    EXPECT_EQ(parsed.data(), "");
  }
}

TEST(RawMessageTest, WithoutTheFieldThereAreNoBytes) {
  WriteContentRequest parsed;
  MessageWithBytes out;
  ASSERT_TRUE(ParseAround(Sliced(Request("").SerializeAsString(), 5), kData, &parsed, &out).ok());
  EXPECT_TRUE(out.bytes.empty());
  EXPECT_EQ(out.size_bytes, 0u);
  EXPECT_EQ(parsed.ref(), "ref");
}

TEST(RawMessageTest, OfAFieldThatComesTwiceTheLastCounts) {
  WriteContentRequest first, second;
  first.set_data("first");
  second.set_data("second");
  WriteContentRequest parsed;
  MessageWithBytes out;
  ASSERT_TRUE(ParseAround(Sliced(first.SerializeAsString() + second.SerializeAsString(), 3), kData,
                          &parsed, &out)
                  .ok());
  EXPECT_EQ(absl::StrJoin(out.bytes, ""), "second");
}

TEST(RawMessageTest, WhatIsCutOffOrNoMessageIsRefused) {
  const std::string whole = Request("some data").SerializeAsString();
  WriteContentRequest parsed;
  MessageWithBytes out;
  for (const std::string& bytes : {whole.substr(0, whole.size() - 1), std::string("\x32\x09 short"),
                                   std::string("\x32\xff\xff\xff\xff\x7f"),
                                   std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                                   std::string("\x12\x02\xff\xff")}) {
    EXPECT_EQ(ParseAround(Sliced(bytes, 4), kData, &parsed, &out).code(),
              absl::StatusCode::kInternal);
  }
}

TEST(RawMessageTest, AFieldIsPutTogetherFromItsHeadAndItsBytes) {
  const std::string data(300, 'y');
  std::string bytes;
  AppendBytesHead(kData, data.size(), bytes);
  WriteContentRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(bytes + data));
  EXPECT_EQ(parsed.data(), data);
}

TEST(RawListTest, ManyRecordsAreOneMessage) {
  using containerd::services::content::v1::ListContentResponse;
  for (const int count : {0, 1, 500}) {
    ListContentResponse expected;
    RawList list;
    for (int i = 0; i < count; ++i) {
      auto* info = expected.add_info();
      info->set_digest(absl::StrCat("sha256:", i));
      // From small ones to those that fill more than a piece.
      (*info->mutable_labels())["key"] = std::string(static_cast<size_t>(i * i), 'x');
      list.Append(info->SerializeAsString());
    }
    const grpc::ByteBuffer bytes = std::move(list).Finish();
    ListContentResponse parsed;
    ASSERT_TRUE(ParseRaw(bytes, &parsed).ok());
    EXPECT_EQ(parsed.SerializeAsString(), expected.SerializeAsString()) << count;
  }
}

}  // namespace
}  // namespace gantry::api::containerd_api
