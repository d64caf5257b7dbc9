#include "snapshotter/stream_digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace gantry::snapshot {

// Nothing here fails but for lack of memory.
StreamDigest::StreamDigest() : context_(EVP_MD_CTX_new()) {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (context_ == nullptr || EVP_DigestInit_ex(context_, sha256, nullptr) != 1) abort();
}

StreamDigest::~StreamDigest() { EVP_MD_CTX_free(context_); }

void StreamDigest::Update(absl::string_view bytes) {
  if (EVP_DigestUpdate(context_, bytes.data(), bytes.size()) != 1) abort();
}

std::string StreamDigest::Finish() {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(context_, bytes, &length) != 1) abort();
  return absl::StrCat("sha256:", absl::BytesToHexString(absl::string_view(
                                     reinterpret_cast<const char*>(bytes), length)));
}

}  // namespace gantry::snapshot
