#include "supervisor/api/metrics/call_recorder.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "base/clock.h"

namespace gantry::api {
namespace {

class Interceptor final : public grpc::experimental::Interceptor {
 public:
  Interceptor(CallRecorder& recorder, const grpc::experimental::ServerRpcInfo& info)
      : recorder_(recorder), method_(info.method()), begin_(Clock::Real().Monotonic()) {}

  // Without a status of ours the client cancelled the call.
  ~Interceptor() override {
    if (!recorded_) Record(grpc::StatusCode::CANCELLED);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::PRE_SEND_STATUS)) {
      // Before the client can know of it: who asks next finds it counted.
      Record(methods->GetSendStatus().error_code());
    }
    methods->Proceed();
  }

 private:
  void Record(grpc::StatusCode code) {
    recorded_ = true;
    recorder_.Record(method_, code, Clock::Real().Monotonic() - begin_);
  }

  CallRecorder& recorder_;
  const std::string method_;
  const absl::Duration begin_;
  bool recorded_ = false;
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(CallRecorder& recorder) : recorder_(recorder) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new Interceptor(recorder_, *info);  // NOLINT(cppcoreguidelines-owning-memory): gRPC's
  }

 private:
  CallRecorder& recorder_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
CallRecorder::NewInterceptors() {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<Factory>(*this));
  return factories;
}

CallRecorder::Series& CallRecorder::Of(const std::string& method) {
  {
    absl::ReaderMutexLock lock(&mu_);
    auto it = series_.find(method);
    if (it != series_.end()) return *it->second;
  }
  absl::MutexLock lock(&mu_);
  std::unique_ptr<Series>& series = series_[method];
  if (series == nullptr) series = std::make_unique<Series>();
  return *series;
}

void CallRecorder::Record(const std::string& method, grpc::StatusCode code, absl::Duration took) {
  Series& series = Of(method);
  ++series.codes[std::min<size_t>(static_cast<size_t>(code), kCodes - 1)];
  const double seconds = absl::ToDoubleSeconds(took);
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  ++series.buckets[static_cast<size_t>(bound - kBounds.begin())];
  series.nanos += absl::ToInt64Nanoseconds(took);
}

void CallRecorder::Write(MetricText& out) const {
  absl::ReaderMutexLock lock(&mu_);
  out.Family("gantry_grpc_calls_total", "counter", "Calls that ended, by method and gRPC code.");
  for (const auto& [method, series] : series_) {
    for (size_t code = 0; code < kCodes; ++code) {
      const int64_t count = series->codes[code];
      if (count == 0) continue;
      out.Sample("gantry_grpc_calls_total",
                 {{"method", method},
                  {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}},
                 static_cast<double>(count));
    }
  }
  out.Family("gantry_grpc_call_seconds", "histogram", "How long calls took, by method.");
  for (const auto& [method, series] : series_) {
    int64_t below = 0;
    for (size_t i = 0; i <= kBounds.size(); ++i) {
      below += series->buckets[i];
      const std::string bound = i < kBounds.size() ? absl::StrCat(kBounds[i]) : "+Inf";
      out.Sample("gantry_grpc_call_seconds_bucket", {{"method", method}, {"le", bound}},
                 static_cast<double>(below));
    }
    out.Sample("gantry_grpc_call_seconds_sum", {{"method", method}},
               static_cast<double>(series->nanos) / 1e9);
    out.Sample("gantry_grpc_call_seconds_count", {{"method", method}}, static_cast<double>(below));
  }
}

}  // namespace gantry::api
