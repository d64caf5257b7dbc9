#include "supervisor/distribution/layer_pipe.h"

#include <atomic>
#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "content-store/fake_store.h"

namespace gantry::distribution {
namespace {

class LayerPipeTest : public testing::Test {
 protected:
  // All that a source gives.
  absl::StatusOr<std::string> ReadAll(LayerPipeSource& source) {
    std::string text;
    char buffer[3];
    while (true) {
      const absl::StatusOr<size_t> got = source.Read(buffer, sizeof buffer);
      if (!got.ok()) return got.status();
      if (*got == 0) return text;
      text.append(buffer, *got);
    }
  }
  content::Digest Stored(const std::string& text) {
    auto ingest = store_.OpenIngest({.ref = "layer"});
    EXPECT_TRUE(ingest.ok());
    EXPECT_TRUE((*ingest)->Append(text).ok());
    return (*ingest)->Commit({}).value();
  }

  content::FakeStore store_;
  CancelToken cancel_;
  std::atomic<int64_t> total_ = 0;
  ProcessorSlots slots_{1};
  SlotHold slot_{slots_, cancel_};
};

TEST_F(LayerPipeTest, BytesArriveInOrderFromMemory) {
  ASSERT_TRUE(slot_.Acquire().ok());
  LayerPipe pipe(100, 100, total_, cancel_);
  LayerPipeSource source(pipe, store_, slot_);
  std::thread writer([&] {
    pipe.Write("hello ");
    pipe.Write("layer");
    pipe.Finish(content::Digest::Sha256Of("not in the store"));
  });
  EXPECT_EQ(ReadAll(source).value(), "hello layer");
  writer.join();
  EXPECT_EQ(total_, 0);
}

TEST_F(LayerPipeTest, WhatDoesNotFitComesFromTheStore) {
  ASSERT_TRUE(slot_.Acquire().ok());
  LayerPipe pipe(6, 100, total_, cancel_);
  pipe.Write("hello ");
  pipe.Write("layer");
  EXPECT_EQ(total_, 6);
  pipe.Finish(Stored("hello layer"));
  LayerPipeSource source(pipe, store_, slot_);
  EXPECT_EQ(ReadAll(source).value(), "hello layer");
}

TEST_F(LayerPipeTest, AllPipesTogetherKeepNoMoreThanTheirLimit) {
  LayerPipe first(100, 8, total_, cancel_);
  {
    LayerPipe second(100, 8, total_, cancel_);
    first.Write("12345");
    second.Write("12345");
    EXPECT_EQ(total_, 5);
    second.Finish(Stored("12345"));
    EXPECT_TRUE(second.Next()->in_store);
  }
  EXPECT_EQ(total_, 5);
}

TEST_F(LayerPipeTest, LayerThatStopsArrivingIsAnError) {
  LayerPipe pipe(100, 100, total_, cancel_);
  pipe.Write("hel");
  pipe.Close();
  EXPECT_EQ(pipe.Next()->bytes, "hel");
  EXPECT_TRUE(absl::IsAborted(pipe.Next().status()));
  EXPECT_TRUE(pipe.closed());
}

TEST_F(LayerPipeTest, CloseAfterTheEndChangesNothing) {
  LayerPipe pipe(100, 100, total_, cancel_);
  pipe.Finish(content::Digest::Sha256Of(""));
  pipe.Close();
  EXPECT_FALSE(pipe.closed());
  EXPECT_TRUE(pipe.Next()->ended);
}

TEST_F(LayerPipeTest, WaitingReaderLendsItsSlotAndEndsWithTheOperation) {
  ASSERT_TRUE(slot_.Acquire().ok());
  LayerPipe pipe(100, 100, total_, cancel_);
  LayerPipeSource source(pipe, store_, slot_);
  absl::Status read;
  std::thread reader([&] {
    char byte;
    read = source.Read(&byte, 1).status();
  });
  CancelToken other;
  EXPECT_TRUE(slots_.Acquire(other).ok());  // the reader's, while it waits
  slots_.Release();
  cancel_.Cancel();
  reader.join();
  EXPECT_TRUE(absl::IsCancelled(read)) << read;
}

}  // namespace
}  // namespace gantry::distribution
