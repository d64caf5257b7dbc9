#include "supervisor/api/gantry/doctor.h"

#include "base/executor.h"
#include "proto/gantry/v1/doctor.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/doctor.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 2;

v1::HostFinding::Severity ToProto(host::Severity severity) {
  switch (severity) {
    case host::Severity::kNote:
      return v1::HostFinding::NOTE;
    case host::Severity::kWarning:
      return v1::HostFinding::WARNING;
    case host::Severity::kError:
      return v1::HostFinding::ERROR;
  }
  return v1::HostFinding::ERROR;
}

class DoctorDoor final : public v1::Doctor::CallbackService {
 public:
  DoctorDoor(core::Doctor& doctor, Executor& work)
      : doctor_(doctor), work_(work, kShare, Scoped::kNo) {}

  grpc::ServerUnaryReactor* Examine(grpc::CallbackServerContext* context,
                                    const v1::ExamineRequest* request,
                                    v1::ExamineResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call&) {
      for (const host::Finding& finding : doctor_.Examine()) {
        v1::HostFinding* const out = response->add_findings();
        out->set_check(finding.check);
        out->set_severity(ToProto(finding.severity));
        out->set_title(finding.title);
        out->set_detail(finding.detail);
        out->set_remedy(finding.remedy);
      }
      return absl::OkStatus();
    });
  }

 private:
  core::Doctor& doctor_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewDoctorDoor(core::Doctor& doctor, Executor& work) {
  return std::make_unique<DoctorDoor>(doctor, work);
}

}  // namespace gantry::api::gantry_v1
