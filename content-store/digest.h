// The name of a blob: algorithm and hex digest of its bytes, and the streaming hasher that makes
// one.
//
// Digest is an immutable value; Hasher is thread-compatible.
// Spec: OCI image-spec v1.1 "Descriptors", section "Digests".
#ifndef GANTRY_CONTENT_STORE_DIGEST_H_
#define GANTRY_CONTENT_STORE_DIGEST_H_

#include <memory>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::content {

// `sha256:<64 lower hex>` or `sha512:<128 lower hex>`. A Digest that exists is well formed, so it
// is safe as a path component.
class Digest {
 public:
  // Empty: no digest. str() is "".
  Digest() = default;

  // kInvalidArgument: unknown algorithm, wrong length, upper case or foreign characters; the text
  // is named.
  static absl::StatusOr<Digest> Parse(absl::string_view text);

  // sha256 of `bytes`.
  static Digest Sha256Of(absl::string_view bytes);

  const std::string& str() const { return text_; }
  absl::string_view algorithm() const;  // "sha256"
  absl::string_view hex() const;
  bool empty() const { return text_.empty(); }

  friend bool operator==(const Digest& a, const Digest& b) { return a.text_ == b.text_; }
  friend bool operator!=(const Digest& a, const Digest& b) { return a.text_ != b.text_; }
  friend bool operator<(const Digest& a, const Digest& b) { return a.text_ < b.text_; }
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.text_);
  }
  friend std::ostream& operator<<(std::ostream& os, const Digest& d) { return os << d.text_; }

 private:
  friend class Hasher;
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// Streams bytes into a digest. Uses the CPU's SHA instructions through OpenSSL.
class Hasher {
 public:
  // `algorithm` is "sha256" or "sha512"; anything else is a programming error.
  explicit Hasher(absl::string_view algorithm = "sha256");
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void Update(absl::string_view bytes);

  // The digest of everything so far; more bytes may follow.
  Digest Current() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_DIGEST_H_
