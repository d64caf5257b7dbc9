// TLS on a connection: both sides show a certificate.
//
// A client without a certificate of the CA gets no further than the handshake. TLS 1.2 and 1.3, no
// renegotiation, no sessions that are resumed: each connection proves itself anew.
//
// A connection that a handler takes over (Exchange::Hijack) goes on through a socket pair: its owner
// has one end, a thread of this object moves the bytes between the other end and the encrypted
// stream until both directions have ended.
//
// The program ignores SIGPIPE: OpenSSL writes to sockets without a word about it.
//
// TlsContext is immutable and outlives its transports; Transport as in server.h.
#ifndef GANTRY_SUPERVISOR_HTTP_TLS_TRANSPORT_H_
#define GANTRY_SUPERVISOR_HTTP_TLS_TRANSPORT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"
#include "supervisor/http/server.h"

struct ssl_ctx_st;

namespace gantry::http {

class TlsContext {
 public:
  // Paths of PEM files.
  struct Files {
    std::string ca;           // who may sign certificates of clients
    std::string certificate;  // the server's, with those between it and its CA
    std::string key;
  };

  // kInvalidArgument: a file cannot be read, holds no certificate or key, or the key does not belong
  // to the certificate; the file is named.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Load(const Files& files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // `socket` is connected and non-blocking.
  std::unique_ptr<Transport> Accept(UniqueFd socket) const;

 private:
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}

  ssl_ctx_st* const context_;
};

}  // namespace gantry::http

#endif  // GANTRY_SUPERVISOR_HTTP_TLS_TRANSPORT_H_
