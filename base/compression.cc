#include "base/compression.h"

#include <archive.h>
#include <archive_entry.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include <isa-l/igzip_lib.h>

#include "base/status_macros.h"

namespace gantry {
namespace {

constexpr size_t kBufferBytes = 128 << 10;
constexpr int kMaxZstdWindowLog = 27;  // 128 MiB
constexpr int kDefaultZstdLevel = 3;

// ISA-L counts in 32 bits.
uint32_t Clamp32(size_t n) { return static_cast<uint32_t>(std::min<size_t>(n, 1u << 30)); }

// The compressed side: a buffer in front of a source, so that its start can be looked at.
class Input {
 public:
  explicit Input(ByteSource& source)
      : source_(source), buffer_(std::make_unique<char[]>(kBufferBytes)) {}

  // Reads until `n` bytes are there or the source ends; never drops anything.
  absl::Status Require(size_t n) {
    while (size() < n && !ended_) {
      if (begin_ > 0) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, size());
        end_ -= begin_;
        begin_ = 0;
      }
      GANTRY_ASSIGN_OR_RETURN(size_t got, source_.Read(buffer_.get() + end_, kBufferBytes - end_));
      end_ += got;
      ended_ = got == 0;
    }
    return absl::OkStatus();
  }

  // Data is there unless the source is at its end.
  absl::Status Fill() { return Require(1); }

  const char* data() const { return buffer_.get() + begin_; }
  size_t size() const { return end_ - begin_; }
  bool ended() const { return ended_ && size() == 0; }
  void Consume(size_t n) { begin_ += n; }
  absl::string_view view() const { return absl::string_view(data(), size()); }
  ByteSource& source() { return source_; }

 private:
  ByteSource& source_;
  const std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool ended_ = false;
};

class PlainStream : public Decompressor {
 public:
  explicit PlainStream(std::unique_ptr<Input> input) : input_(std::move(input)) {}
  Compression compression() const override { return Compression::kNone; }

  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (input_->size() == 0) return input_->source().Read(buffer, n);
    n = std::min(n, input_->size());
    std::memcpy(buffer, input_->data(), n);
    input_->Consume(n);
    return n;
  }

 private:
  const std::unique_ptr<Input> input_;
};

absl::Status GzipError(int code) {
  switch (code) {
    case ISAL_INVALID_WRAPPER:
      return absl::DataLossError("gzip: no gzip header");
    case ISAL_UNSUPPORTED_METHOD:
      return absl::DataLossError("gzip: unknown compression method");
    case ISAL_INCORRECT_CHECKSUM:
      return absl::DataLossError("gzip: checksum or length does not match the data");
    default:
      return absl::DataLossError(absl::StrCat("gzip: damaged data (", code, ")"));
  }
}

class GzipStream : public Decompressor {
 public:
  explicit GzipStream(std::unique_ptr<Input> input)
      : input_(std::move(input)), state_(std::make_unique<struct inflate_state>()) {
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP;
  }
  Compression compression() const override { return Compression::kGzip; }

  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (n == 0) return 0;
    for (;;) {
      GANTRY_RETURN_IF_ERROR(input_->Fill());
      if (between_members_) {
        GANTRY_ASSIGN_OR_RETURN(bool more, NextMember());
        if (!more) return 0;
      }
      const bool source_ended = input_->ended();
      state_->next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(input_->data()));
      state_->avail_in = Clamp32(input_->size());
      state_->next_out = reinterpret_cast<uint8_t*>(buffer);
      state_->avail_out = Clamp32(n);
      const uint32_t offered = state_->avail_in;
      const uint32_t room = state_->avail_out;
      const int code = isal_inflate(state_.get());
      if (code < 0 || code == ISAL_NEED_DICT) return GzipError(code);
      input_->Consume(offered - state_->avail_in);
      if (state_->block_state == ISAL_BLOCK_FINISH) between_members_ = true;
      const size_t produced = room - state_->avail_out;
      if (produced > 0) return produced;
      if (source_ended && !between_members_)
        return absl::DataLossError("gzip: the stream is truncated");
    }
  }

 private:
  // After the end of a member: is there another one? Padding with zeros, as tape and block devices
  // leave it, does not count as one.
  absl::StatusOr<bool> NextMember() {
    while (!input_->ended()) {
      const absl::string_view rest = input_->view();
      const size_t zeros = std::min(rest.find_first_not_of('\0'), rest.size());
      padding_ = padding_ || zeros > 0;
      input_->Consume(zeros);
      if (zeros < rest.size()) {
        if (padding_ || rest[zeros] != '\x1f') {
          return absl::DataLossError(
              "gzip: something that is not gzip follows the compressed data");
        }
        isal_inflate_reset(state_.get());
        state_->crc_flag = ISAL_GZIP;
        between_members_ = false;
        return true;
      }
      GANTRY_RETURN_IF_ERROR(input_->Fill());
    }
    return false;
  }

  const std::unique_ptr<Input> input_;
  const std::unique_ptr<struct inflate_state> state_;
  bool between_members_ = false;
  bool padding_ = false;
};

class ZstdStream : public Decompressor {
 public:
  explicit ZstdStream(std::unique_ptr<Input> input)
      : input_(std::move(input)), context_(ZSTD_createDCtx()) {
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  Compression compression() const override { return Compression::kZstd; }

  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (n == 0) return 0;
    for (;;) {
      GANTRY_RETURN_IF_ERROR(input_->Fill());
      const bool source_ended = input_->ended();
      if (source_ended && frame_complete_) return 0;
      ZSTD_inBuffer in = {input_->data(), input_->size(), 0};
      ZSTD_outBuffer out = {buffer, n, 0};
      const size_t code = ZSTD_decompressStream(context_.get(), &out, &in);
      if (ZSTD_isError(code)) {
        const std::string message = absl::StrCat("zstd: ", ZSTD_getErrorName(code));
        if (ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge) {
          return absl::ResourceExhaustedError(message);
        }
        return absl::DataLossError(message);
      }
      frame_complete_ = code == 0;
      input_->Consume(in.pos);
      if (out.pos > 0) return out.pos;
      if (source_ended && !frame_complete_)
        return absl::DataLossError("zstd: the stream is truncated");
    }
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  const std::unique_ptr<Input> input_;
  const std::unique_ptr<ZSTD_DCtx, Free> context_;
  bool frame_complete_ = false;
};

// xz and bzip2, rare in images: libarchive's filters under its "raw" format, which has one entry,
// the bytes.
class ArchiveStream : public Decompressor {
 public:
  ArchiveStream(std::unique_ptr<Input> input, Compression compression)
      : input_(std::move(input)), compression_(compression), archive_(archive_read_new()) {}
  Compression compression() const override { return compression_; }

  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (n == 0) return 0;
    if (!opened_) GANTRY_RETURN_IF_ERROR(Open());
    const la_ssize_t got = archive_read_data(archive_.get(), buffer, n);
    if (got < 0) return Error();
    if (got == 0) {
      // The filter stops where its format ends.
      while (input_status_.ok() && !input_->ended()) {
        input_->Consume(input_->size());
        input_status_ = input_->Fill();
      }
      if (!input_status_.ok()) return input_status_;
    }
    return static_cast<size_t>(got);
  }

 private:
  struct Free {
    void operator()(struct archive* a) const { archive_read_free(a); }
  };

  absl::Status Open() {
    opened_ = true;
    struct archive* a = archive_.get();
    if (compression_ == Compression::kXz) {
      archive_read_support_filter_xz(a);
    } else {
      archive_read_support_filter_bzip2(a);
    }
    archive_read_support_format_raw(a);
    struct archive_entry* entry = nullptr;
    if (archive_read_open(a, this, nullptr, &ArchiveStream::ReadInput, nullptr) != ARCHIVE_OK ||
        archive_read_next_header(a, &entry) != ARCHIVE_OK) {
      return Error();
    }
    // Without a filter that knows the bytes, "raw" would hand them on as they are.
    if (archive_filter_count(a) < 2) {
      return absl::DataLossError(absl::StrCat(CompressionName(compression_), ": no such header"));
    }
    return absl::OkStatus();
  }

  absl::Status Error() {
    if (!input_status_.ok()) return input_status_;
    const char* text = archive_error_string(archive_.get());
    return absl::DataLossError(
        absl::StrCat(CompressionName(compression_), ": ", text == nullptr ? "damaged data" : text));
  }

  static la_ssize_t ReadInput(struct archive* a, void* self_pointer, const void** data) {
    auto* self = static_cast<ArchiveStream*>(self_pointer);
    // libarchive is done with the piece it got when it asks for the next.
    self->input_->Consume(self->lent_);
    self->lent_ = 0;
    self->input_status_ = self->input_->Fill();
    if (!self->input_status_.ok()) {
      archive_set_error(a, EIO, "read failed");
      return -1;
    }
    self->lent_ = self->input_->size();
    *data = self->input_->data();
    return static_cast<la_ssize_t>(self->lent_);
  }

  const std::unique_ptr<Input> input_;
  const Compression compression_;
  bool opened_ = false;
  size_t lent_ = 0;
  absl::Status input_status_;
  const std::unique_ptr<struct archive, Free> archive_;
};

class PlainCompressor : public Compressor {
 public:
  explicit PlainCompressor(ByteSink& sink) : sink_(sink) {}
  absl::Status Write(absl::string_view bytes) override { return sink_.Write(bytes); }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  ByteSink& sink_;
};

class GzipCompressor : public Compressor {
 public:
  GzipCompressor(ByteSink& sink, int level)
      : sink_(sink),
        out_(std::make_unique<uint8_t[]>(kBufferBytes)),
        stream_(std::make_unique<struct isal_zstream>()) {
    static constexpr uint32_t kLevelBytes[] = {0, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT,
                                               ISAL_DEF_LVL3_DEFAULT};
    level = level <= 0 ? 1 : std::min(level, 3);
    isal_deflate_init(stream_.get());
    level_buffer_ = std::make_unique<uint8_t[]>(kLevelBytes[level]);
    stream_->level = static_cast<uint32_t>(level);
    stream_->level_buf = level_buffer_.get();
    stream_->level_buf_size = kLevelBytes[level];
    stream_->gzip_flag = IGZIP_GZIP;
  }

  absl::Status Write(absl::string_view bytes) override {
    if (finished_) return absl::FailedPreconditionError("gzip: write after the end");
    while (!bytes.empty()) {
      const uint32_t piece = Clamp32(bytes.size());
      GANTRY_RETURN_IF_ERROR(Deflate(bytes.substr(0, piece)));
      bytes.remove_prefix(piece);
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    if (finished_) return absl::OkStatus();
    finished_ = true;
    stream_->end_of_stream = 1;
    return Deflate("");
  }

 private:
  absl::Status Deflate(absl::string_view bytes) {
    stream_->next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(bytes.data()));
    stream_->avail_in = static_cast<uint32_t>(bytes.size());
    do {
      stream_->next_out = out_.get();
      stream_->avail_out = kBufferBytes;
      if (const int code = isal_deflate(stream_.get()); code != COMP_OK) {
        return absl::InternalError(absl::StrCat("gzip: deflate failed (", code, ")"));
      }
      const size_t produced = kBufferBytes - stream_->avail_out;
      if (produced > 0) {
        GANTRY_RETURN_IF_ERROR(
            sink_.Write(absl::string_view(reinterpret_cast<char*>(out_.get()), produced)));
      }
    } while (stream_->avail_in > 0 || stream_->avail_out == 0);
    return absl::OkStatus();
  }

  ByteSink& sink_;
  const std::unique_ptr<uint8_t[]> out_;
  const std::unique_ptr<struct isal_zstream> stream_;
  std::unique_ptr<uint8_t[]> level_buffer_;
  bool finished_ = false;
};

class ZstdCompressor : public Compressor {
 public:
  ZstdCompressor(ByteSink& sink, int level)
      : sink_(sink), out_(std::make_unique<char[]>(kBufferBytes)), context_(ZSTD_createCCtx()) {
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel,
                           level == 0 ? kDefaultZstdLevel : level);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }

  absl::Status Write(absl::string_view bytes) override {
    if (finished_) return absl::FailedPreconditionError("zstd: write after the end");
    return Run(bytes, ZSTD_e_continue);
  }

  absl::Status Finish() override {
    if (finished_) return absl::OkStatus();
    finished_ = true;
    return Run("", ZSTD_e_end);
  }

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };

  absl::Status Run(absl::string_view bytes, ZSTD_EndDirective directive) {
    ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
    size_t left;
    do {
      ZSTD_outBuffer out = {out_.get(), kBufferBytes, 0};
      left = ZSTD_compressStream2(context_.get(), &out, &in, directive);
      if (ZSTD_isError(left))
        return absl::InternalError(absl::StrCat("zstd: ", ZSTD_getErrorName(left)));
      if (out.pos > 0) GANTRY_RETURN_IF_ERROR(sink_.Write(absl::string_view(out_.get(), out.pos)));
    } while (in.pos < in.size || (directive == ZSTD_e_end && left > 0));
    return absl::OkStatus();
  }

  ByteSink& sink_;
  const std::unique_ptr<char[]> out_;
  const std::unique_ptr<ZSTD_CCtx, Free> context_;
  bool finished_ = false;
};

absl::StatusOr<std::unique_ptr<Decompressor>> Open(std::unique_ptr<Input> input,
                                                   Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return std::make_unique<PlainStream>(std::move(input));
    case Compression::kGzip:
      return std::make_unique<GzipStream>(std::move(input));
    case Compression::kZstd:
      return std::make_unique<ZstdStream>(std::move(input));
    case Compression::kXz:
    case Compression::kBzip2:
      return std::make_unique<ArchiveStream>(std::move(input), compression);
  }
  return absl::InvalidArgumentError("unknown compression");
}

}  // namespace

absl::string_view CompressionName(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "uncompressed";
    case Compression::kGzip:
      return "gzip";
    case Compression::kZstd:
      return "zstd";
    case Compression::kXz:
      return "xz";
    case Compression::kBzip2:
      return "bzip2";
  }
  return "unknown";
}

Compression DetectCompression(absl::string_view magic) {
  const auto starts = [magic](absl::string_view with) {
    return magic.substr(0, with.size()) == with;
  };
  if (starts(absl::string_view("\x1f\x8b\x08", 3))) return Compression::kGzip;
  if (starts(absl::string_view("\x28\xb5\x2f\xfd", 4))) return Compression::kZstd;
  // A stream may begin with a skippable frame (zstd:chunked and pzstd do that).
  if (magic.size() >= 4 && (static_cast<uint8_t>(magic[0]) & 0xf0) == 0x50 &&
      magic.substr(1, 3) == absl::string_view("\x2a\x4d\x18", 3)) {
    return Compression::kZstd;
  }
  if (starts(absl::string_view("\xfd"
                               "7zXZ\0",
                               6)))
    return Compression::kXz;
  if (magic.size() >= 4 && starts("BZh") && magic[3] >= '1' && magic[3] <= '9')
    return Compression::kBzip2;
  return Compression::kNone;
}

absl::StatusOr<std::unique_ptr<Decompressor>> OpenDecompressor(ByteSource& source) {
  auto input = std::make_unique<Input>(source);
  GANTRY_RETURN_IF_ERROR(input->Require(kCompressionMagicSize));
  const Compression compression = DetectCompression(input->view());
  return Open(std::move(input), compression);
}

absl::StatusOr<std::unique_ptr<Decompressor>> OpenDecompressor(ByteSource& source,
                                                               Compression compression) {
  return Open(std::make_unique<Input>(source), compression);
}

absl::StatusOr<std::unique_ptr<Compressor>> OpenCompressor(ByteSink& sink, Compression compression,
                                                           int level) {
  switch (compression) {
    case Compression::kNone:
      return std::make_unique<PlainCompressor>(sink);
    case Compression::kGzip:
      return std::make_unique<GzipCompressor>(sink, level);
    case Compression::kZstd:
      return std::make_unique<ZstdCompressor>(sink, level);
    case Compression::kXz:
    case Compression::kBzip2:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat("cannot write ", CompressionName(compression)));
}

}  // namespace gantry
