#include "content-store/digest.h"

#include <openssl/evp.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace gantry::content {
namespace {

size_t HexLength(absl::string_view algorithm) {
  if (algorithm == "sha256") return 64;
  if (algorithm == "sha512") return 128;
  return 0;
}

// Fetching an algorithm searches OpenSSL's providers; once is enough.
const EVP_MD* Algorithm(absl::string_view name) {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  static const EVP_MD* const sha512 = EVP_MD_fetch(nullptr, "SHA512", nullptr);
  if (name == "sha256") return sha256;
  if (name == "sha512") return sha512;
  return nullptr;
}

[[noreturn]] void Die() { abort(); }

std::string HexOf(EVP_MD_CTX* context) {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(context, bytes, &length) != 1) Die();
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes), length));
}

}  // namespace

absl::StatusOr<Digest> Digest::Parse(absl::string_view text) {
  const auto invalid = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("digest \"", absl::CHexEscape(text.substr(0, 200)), "\": ", why));
  };
  const size_t colon = text.find(':');
  if (colon == absl::string_view::npos) return invalid("not of the form algorithm:hex");
  const size_t length = HexLength(text.substr(0, colon));
  if (length == 0) return invalid("unknown algorithm (known: sha256, sha512)");
  const absl::string_view hex = text.substr(colon + 1);
  if (hex.size() != length) {
    return invalid(
        absl::StrCat("has ", hex.size(), " characters after the colon instead of ", length));
  }
  for (const char c : hex) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return invalid("not lower-case hex");
  }
  return Digest(std::string(text));
}

Digest Digest::Sha256Of(absl::string_view bytes) {
  Hasher hasher;
  hasher.Update(bytes);
  return hasher.Current();
}

absl::string_view Digest::algorithm() const {
  return absl::string_view(text_).substr(0, text_.find(':'));
}

absl::string_view Digest::hex() const {
  const size_t colon = text_.find(':');
  return colon == std::string::npos ? absl::string_view()
                                    : absl::string_view(text_).substr(colon + 1);
}

struct Hasher::State {
  explicit State(absl::string_view name)
      : algorithm(name), context(EVP_MD_CTX_new()), scratch(EVP_MD_CTX_new()) {
    const EVP_MD* md = Algorithm(name);
    if (md == nullptr || context == nullptr || scratch == nullptr) Die();
    if (EVP_DigestInit_ex(context, md, nullptr) != 1) Die();
  }
  ~State() {
    EVP_MD_CTX_free(context);
    EVP_MD_CTX_free(scratch);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  const std::string algorithm;
  EVP_MD_CTX* const context;
  EVP_MD_CTX* const scratch;  // Current() finishes a copy, so that more bytes may follow
};

Hasher::Hasher(absl::string_view algorithm) : state_(std::make_unique<State>(algorithm)) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Update(absl::string_view bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1) Die();
}

Digest Hasher::Current() const {
  if (EVP_MD_CTX_copy_ex(state_->scratch, state_->context) != 1) Die();
  return Digest(absl::StrCat(state_->algorithm, ":", HexOf(state_->scratch)));
}

}  // namespace gantry::content
