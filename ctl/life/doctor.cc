#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/host/checks.h"
#include "base/host/observer.h"
#include "base/status_macros.h"
#include "ctl/life/verbs.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/doctor.pb.h"

namespace gantry::ctl {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

std::vector<host::Finding> FromDaemon(const v1::ExamineResponse& response) {
  std::vector<host::Finding> findings;
  for (const v1::HostFinding& one : response.findings()) {
    host::Finding finding;
    finding.check = one.check();
    finding.severity = one.severity() == v1::HostFinding::NOTE      ? host::Severity::kNote
                       : one.severity() == v1::HostFinding::WARNING ? host::Severity::kWarning
                                                                    : host::Severity::kError;
    finding.title = one.title();
    finding.detail = one.detail();
    finding.remedy = one.remedy();
    findings.push_back(std::move(finding));
  }
  return findings;
}

class DoctorAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 0, "template", "json, or a Go template for each finding");
    flags.String(&root_, "root", 0, "dir",
                 "gantryd's root directory, for when it does not answer (default /var/lib/gantry)");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    std::vector<host::Finding> findings;
    const absl::Status asked = Ask(context, findings);
    if (!asked.ok()) findings = LookFromHere(context, asked);
    int wrong = 0;
    for (const host::Finding& finding : findings) {
      if (finding.severity != host::Severity::kNote) ++wrong;
    }
    if (format_.empty()) {
      context.Out(Text(findings, wrong));
    } else if (format_ == "json") {
      Value all = Value::EmptyList();
      for (const host::Finding& finding : findings) all.Append(Document(finding));
      GANTRY_ASSIGN_OR_RETURN(const std::string text, RenderOne(all, format_));
      context.Out(text);
    } else {
      for (const host::Finding& finding : findings) {
        GANTRY_ASSIGN_OR_RETURN(const std::string text, RenderOne(Document(finding), format_));
        context.Out(text);
      }
    }
    return wrong == 0 ? 0 : 1;
  }

 private:
  static absl::Status Ask(Context& context, std::vector<host::Finding>& findings) {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ExamineResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(v1::ExamineRequest(), &response, kPatience));
    findings = FromDaemon(response);
    return absl::OkStatus();
  }

  // Without the daemon: the host as this process sees it, and what is at the daemon's socket.
  std::vector<host::Finding> LookFromHere(const Context& context, const absl::Status& asked) const {
    host::Places places;
    places.root_directory = root_.empty() ? "/var/lib/gantry" : root_;
    places.socket = context.address;
    places.state_directory = context.address.substr(0, context.address.rfind('/'));
    host::Observation seen = host::Observe(places);
    host::ObserveSilentDaemon(places, std::string(asked.message()), seen);
    // Of the daemon, not of whoever asks here.
    seen.root = true;
    seen.missing_capabilities.clear();
    seen.open_files_limit = host::Observation().open_files_limit;
    for (const char* name : {"crun", "runc"}) {
      for (const char* directory : {"/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/bin/"}) {
        struct stat info;
        const std::string path = absl::StrCat(directory, name);
        if (stat(path.c_str(), &info) != 0) continue;
        seen.runtimes.push_back({name, path, "", ""});
        break;
      }
    }
    seen.default_runtime_usable = !seen.runtimes.empty();
    return host::CheckHost(seen);
  }

  static Value Document(const host::Finding& finding) {
    Value out = Value::EmptyObject();
    out.Set("Check", finding.check);
    out.Set("Severity", host::SeverityWord(finding.severity));
    out.Set("Title", finding.title);
    out.Set("Detail", finding.detail);
    out.Set("Remedy", finding.remedy);
    return out;
  }

  static std::string Text(const std::vector<host::Finding>& findings, int wrong) {
    std::string out;
    for (const host::Finding& finding : findings) {
      absl::StrAppend(&out, host::SeverityWord(finding.severity), ": ", finding.title, " [",
                      finding.check, "]\n");
      if (!finding.detail.empty()) absl::StrAppend(&out, "    seen:   ", finding.detail, "\n");
      absl::StrAppend(&out, "    remedy: ", finding.remedy, "\n");
    }
    if (wrong == 0) absl::StrAppend(&out, "Nothing is wrong.\n");
    return out;
  }

  std::string format_;
  std::string root_;
};

}  // namespace

Verb DoctorVerb() {
  return {.name = "doctor",
          .arguments = "[OPTIONS]",
          .summary = "Look for what is wrong with the host and the daemon, with remedies",
          .examples =
              "  ctl doctor\n"
              "  ctl doctor --format json\n"
              "  ctl doctor --format '{{.Severity}} {{.Check}}' || echo 'see above'\n",
          .max_args = 0,
          .make = [] { return std::make_unique<DoctorAction>(); }};
}

}  // namespace gantry::ctl
