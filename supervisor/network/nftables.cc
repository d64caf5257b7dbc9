#include "supervisor/network/nftables.h"

#include <dlfcn.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::network {
namespace {

constexpr unsigned kUnshare = 1u << 1;  // CLOSE_RANGE_UNSHARE, which Debian 12's C library lacks

template <typename Function>
bool Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// From here on this thread has its own table of descriptors, with the standard streams alone, so
// that what it opens has small numbers.
void LeaveDescriptorsBehind() {
  if (syscall(SYS_close_range, 3u, ~0u, kUnshare) == 0) return;
  if (unshare(CLONE_FILES) != 0) return;  // as good as it was
  for (int fd = 3; fd < 1024; ++fd) close(fd);
}

}  // namespace

struct Nftables::Library {
  decltype(&nft_ctx_new) ctx_new;
  decltype(&nft_ctx_free) ctx_free;
  decltype(&nft_ctx_buffer_output) buffer_output;
  decltype(&nft_ctx_buffer_error) buffer_error;
  decltype(&nft_ctx_get_error_buffer) error_buffer;
  decltype(&nft_ctx_get_output_buffer) output_buffer;
  decltype(&nft_run_cmd_from_buffer) run;
};

// Never unloaded.
const absl::StatusOr<Nftables::Library>& Nftables::Load() {
  static const auto* const loaded = new absl::StatusOr<Library>([]() -> absl::StatusOr<Library> {
    void* const library = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
    Library nft;
    if (library != nullptr && Find(library, "nft_ctx_new", nft.ctx_new) &&
        Find(library, "nft_ctx_free", nft.ctx_free) &&
        Find(library, "nft_ctx_buffer_output", nft.buffer_output) &&
        Find(library, "nft_ctx_buffer_error", nft.buffer_error) &&
        Find(library, "nft_ctx_get_error_buffer", nft.error_buffer) &&
        Find(library, "nft_ctx_get_output_buffer", nft.output_buffer) &&
        Find(library, "nft_run_cmd_from_buffer", nft.run))
      return nft;
    const char* why = dlerror();
    return absl::UnimplementedError(
        absl::StrCat("networks need libnftables (Debian package libnftables1): ",
                     why == nullptr ? "a function is missing" : why));
  }());
  return *loaded;
}

absl::StatusOr<std::unique_ptr<Nftables>> Nftables::Open() {
  GANTRY_RETURN_IF_ERROR(Load().status());
  std::unique_ptr<Nftables> nft(new Nftables(*Load()));
  // It takes over the network namespace of this one.
  GANTRY_ASSIGN_OR_RETURN(nft->thread_, NewThread([raw = nft.get()] { raw->Serve(); }));
  absl::MutexLock lock(&nft->mu_);
  nft->mu_.Await(absl::Condition(nft.get(), &Nftables::IsStarted));
  if (nft->stage_ == Stage::kFailed) {
    return absl::UnimplementedError(
        "nftables cannot be used; is the kernel built with CONFIG_NF_TABLES?");
  }
  return nft;
}

Nftables::~Nftables() {
  if (!thread_.joinable()) return;
  {
    absl::MutexLock lock(&mu_);
    if (stage_ != Stage::kFailed) stage_ = Stage::kEnding;
  }
  thread_.join();
}

Nftables::Outcome Nftables::Run(const std::string& commands) {
  absl::MutexLock turn(&calls_);
  absl::MutexLock lock(&mu_);
  commands_ = &commands;
  stage_ = Stage::kAsked;
  mu_.Await(absl::Condition(this, &Nftables::IsAnswered));
  stage_ = Stage::kIdle;
  return std::move(outcome_);
}

void Nftables::Serve() {
  LeaveDescriptorsBehind();
  nft_ctx* const context = library_.ctx_new(NFT_CTX_DEFAULT);
  if (context != nullptr) {
    library_.buffer_output(context);
    library_.buffer_error(context);
  }
  const absl::Cleanup free_context = [&] {
    if (context != nullptr) library_.ctx_free(context);
  };
  absl::MutexLock lock(&mu_);
  stage_ = context == nullptr ? Stage::kFailed : Stage::kIdle;
  while (context != nullptr) {
    mu_.Await(absl::Condition(this, &Nftables::IsWanted));
    if (stage_ == Stage::kEnding) return;
    const std::string& commands = *commands_;
    mu_.Unlock();
    Outcome outcome;
    outcome.ok = library_.run(context, commands.c_str()) == 0;
    outcome.output = library_.output_buffer(context);
    outcome.error = library_.error_buffer(context);
    mu_.Lock();
    outcome_ = std::move(outcome);
    stage_ = Stage::kAnswered;
  }
}

}  // namespace gantry::network
