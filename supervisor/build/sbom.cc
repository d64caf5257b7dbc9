#include "supervisor/build/sbom.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"

#include "base/byte_stream.h"
#include "base/errno_status.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "content-store/digest.h"
#include "supervisor/distribution/url.h"

namespace gantry::build {
namespace {

using engine::Value;

constexpr int64_t kMaxDatabaseBytes = int64_t{256} << 20;
constexpr size_t kMaxFiles = 100'000;  // of a database that has one for each package
constexpr char kDocument[] = "SPDXRef-DOCUMENT";

// nullopt: there is no such file.
absl::StatusOr<absl::optional<std::string>> Read(int root, const std::string& path) {
  const UniqueFd file = OpenInRoot(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return absl::optional<std::string>();
    return ErrnoToStatus(errno, path);
  }
  if (!S_ISREG(info.st_mode)) return absl::optional<std::string>();
  FdSource source(file.get());
  GANTRY_ASSIGN_OR_RETURN(std::string text, ReadAll(source, kMaxDatabaseBytes));
  return absl::optional<std::string>(std::move(text));
}

void ReadRelease(const std::string& text, PackageList& list) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> field =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    absl::string_view value = field.second;
    absl::ConsumePrefix(&value, "\"");
    absl::ConsumeSuffix(&value, "\"");
    if (field.first == "ID") list.distribution = std::string(value);
    if (field.first == "VERSION_ID") list.release = std::string(value);
  }
}

// Paragraphs of "Field: value" lines; lines that begin with a blank continue the last one.
void ReadDpkg(const std::string& text, std::vector<Package>& packages) {
  Package package;
  bool installed = true;
  const auto finish = [&] {
    if (!package.name.empty() && !package.version.empty() && installed)
      packages.push_back(std::exchange(package, Package()));
    package = Package();
    installed = true;
  };
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StripAsciiWhitespace(line).empty()) {
      finish();
      continue;
    }
    const size_t colon = line.find(": ");
    if (line[0] == ' ' || line[0] == '\t' || colon == absl::string_view::npos) continue;
    const absl::string_view key = line.substr(0, colon);
    const std::string value(absl::StripAsciiWhitespace(line.substr(colon + 2)));
    if (key == "Package") package.name = value;
    if (key == "Version") package.version = value;
    if (key == "Architecture") package.architecture = value;
    if (key == "Source") package.source = value.substr(0, value.find(' '));
    if (key == "Maintainer") package.maintainer = value;
    if (key == "Homepage") package.homepage = value;
    if (key == "Status") installed = absl::EndsWith(value, " installed");
  }
  finish();
}

// Paragraphs of "X:value" lines.
void ReadApk(const std::string& text, std::vector<Package>& packages) {
  Package package;
  package.kind = Package::Kind::kApk;
  const auto finish = [&] {
    if (!package.name.empty() && !package.version.empty()) packages.push_back(package);
    package = Package();
    package.kind = Package::Kind::kApk;
  };
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty()) {
      finish();
      continue;
    }
    if (line.size() < 2 || line[1] != ':') continue;
    const std::string value(line.substr(2));
    switch (line[0]) {
      case 'P':
        package.name = value;
        break;
      case 'V':
        package.version = value;
        break;
      case 'A':
        package.architecture = value;
        break;
      case 'o':
        package.source = value;
        break;
      case 'm':
        package.maintainer = value;
        break;
      case 'L':
        package.license = value;
        break;
      case 'U':
        package.homepage = value;
        break;
      default:
        break;
    }
  }
  finish();
}

absl::Status ReadDpkgDirectory(int root, std::vector<Package>& packages) {
  const std::string path = "/var/lib/dpkg/status.d";
  UniqueFd directory = OpenInRoot(root, path, O_RDONLY | O_DIRECTORY);
  if (!directory.valid()) return absl::OkStatus();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(directory.get()), &closedir);
  if (stream == nullptr) return ErrnoToStatus(errno, path);
  (void)directory.release();  // the stream closes it
  std::vector<std::string> names;
  while (const dirent* item = readdir(stream.get())) {
    const absl::string_view name = item->d_name;
    if (name == "." || name == ".." || absl::EndsWith(name, ".md5sums")) continue;
    if (names.size() >= kMaxFiles)
      return absl::ResourceExhaustedError(absl::StrCat(path, ": more than ", kMaxFiles, " files"));
    names.emplace_back(name);
  }
  for (const std::string& name : names) {
    GANTRY_ASSIGN_OR_RETURN(const absl::optional<std::string> text,
                            Read(root, absl::StrCat(path, "/", name)));
    if (text.has_value()) ReadDpkg(*text, packages);
  }
  return absl::OkStatus();
}

// Text of a package URL: what is not a plain character is escaped.
std::string PurlOf(const Package& package, const PackageList& list) {
  const bool deb = package.kind == Package::Kind::kDeb;
  const std::string space =
      !list.distribution.empty() ? list.distribution : (deb ? "debian" : "alpine");
  std::string purl = absl::StrCat("pkg:", deb ? "deb/" : "apk/", distribution::UrlEncode(space),
                                  "/", distribution::UrlEncode(package.name), "@",
                                  distribution::UrlEncode(package.version));
  std::vector<std::string> qualifiers;
  if (!package.architecture.empty())
    qualifiers.push_back(absl::StrCat("arch=", distribution::UrlEncode(package.architecture)));
  if (!list.distribution.empty())
    qualifiers.push_back(absl::StrCat("distro=", distribution::UrlEncode(list.distribution),
                                      list.release.empty() ? "" : "-",
                                      distribution::UrlEncode(list.release)));
  if (!package.source.empty() && package.source != package.name)
    qualifiers.push_back(absl::StrCat("upstream=", distribution::UrlEncode(package.source)));
  for (size_t i = 0; i < qualifiers.size(); ++i)
    absl::StrAppend(&purl, i == 0 ? "?" : "&", qualifiers[i]);
  return purl;
}

}  // namespace

absl::StatusOr<PackageList> ListPackages(int root) {
  PackageList list;
  for (const char* path : {"/etc/os-release", "/usr/lib/os-release"}) {
    GANTRY_ASSIGN_OR_RETURN(const absl::optional<std::string> text, Read(root, path));
    if (!text.has_value()) continue;
    ReadRelease(*text, list);
    break;
  }
  GANTRY_ASSIGN_OR_RETURN(const absl::optional<std::string> dpkg,
                          Read(root, "/var/lib/dpkg/status"));
  if (dpkg.has_value()) ReadDpkg(*dpkg, list.packages);
  GANTRY_RETURN_IF_ERROR(ReadDpkgDirectory(root, list.packages));
  for (const char* path : {"/lib/apk/db/installed", "/usr/lib/apk/db/installed"}) {
    GANTRY_ASSIGN_OR_RETURN(const absl::optional<std::string> apk, Read(root, path));
    if (!apk.has_value()) continue;
    ReadApk(*apk, list.packages);
    break;
  }
  const auto order = [](const Package& package) {
    return std::tie(package.name, package.architecture, package.version);
  };
  std::sort(list.packages.begin(), list.packages.end(),
            [&](const Package& a, const Package& b) { return order(a) < order(b); });
  list.packages.erase(std::unique(list.packages.begin(), list.packages.end()), list.packages.end());
  return list;
}

Value SpdxDocument(const PackageList& list, const std::string& name, absl::Time created) {
  Value packages = Value::EmptyList();
  Value relations = Value::EmptyList();
  std::string all;
  const auto relate = [&](absl::string_view from, absl::string_view kind, absl::string_view to) {
    Value one = Value::EmptyObject();
    one.Set("spdxElementId", from);
    one.Set("relationshipType", kind);
    one.Set("relatedSpdxElement", to);
    relations.Append(std::move(one));
  };
  for (const Package& package : list.packages) {
    const std::string purl = PurlOf(package, list);
    absl::StrAppend(&all, purl, "\n");
    const std::string id =
        absl::StrCat("SPDXRef-Package-", package.kind == Package::Kind::kDeb ? "deb-" : "apk-",
                     content::Digest::Sha256Of(purl).hex().substr(0, 16));
    Value one = Value::EmptyObject();
    one.Set("SPDXID", id);
    one.Set("name", package.name);
    one.Set("versionInfo", package.version);
    if (!package.maintainer.empty())
      one.Set("supplier", absl::StrCat("Person: ", package.maintainer));
    one.Set("downloadLocation", "NOASSERTION");
    one.Set("filesAnalyzed", false);
    if (!package.homepage.empty()) one.Set("homepage", package.homepage);
    one.Set("licenseConcluded", "NOASSERTION");
    one.Set("licenseDeclared", "NOASSERTION");
    // As the package has it; whether it is an SPDX expression is not known.
    if (!package.license.empty()) one.Set("licenseComments", package.license);
    one.Set("copyrightText", "NOASSERTION");
    Value reference = Value::EmptyObject();
    reference.Set("referenceCategory", "PACKAGE-MANAGER");
    reference.Set("referenceType", "purl");
    reference.Set("referenceLocator", purl);
    one.Set("externalRefs", Value::EmptyList().Append(std::move(reference)));
    packages.Append(std::move(one));
    relate(kDocument, "DESCRIBES", id);
  }
  Value creation = Value::EmptyObject();
  creation.Set("creators",
               Value::EmptyList().Append("Organization: Gantry").Append("Tool: gantryd"));
  creation.Set("created", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", created, absl::UTCTimeZone()));
  Value document = Value::EmptyObject();
  document.Set("spdxVersion", "SPDX-2.3");
  document.Set("dataLicense", "CC0-1.0");
  document.Set("SPDXID", kDocument);
  document.Set("name", name);
  document.Set("documentNamespace",
               absl::StrCat("https://gantry.invalid/spdx/", distribution::UrlEncode(name), "-",
                            content::Digest::Sha256Of(all).hex()));
  document.Set("comment",
               "Packages that the databases of dpkg and apk name. What was installed in another "
               "way is not listed.");
  document.Set("creationInfo", std::move(creation));
  document.Set("packages", std::move(packages));
  document.Set("relationships", std::move(relations));
  return document;
}

}  // namespace gantry::build
