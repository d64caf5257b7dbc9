// The .proto files of foreign contracts say what the fact table says: every row, and nothing else.

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/compiler/importer.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

namespace gantry {
namespace {

namespace pb = google::protobuf;

class Table {
 public:
  void Add(std::vector<std::string> columns) {
    columns.resize(13, "-");
    for (std::string& column : columns) {
      if (column.empty()) column = "-";
    }
    rows_.insert(absl::StrJoin(columns, "\t"));
  }
  const std::multiset<std::string>& rows() const { return rows_; }

 private:
  std::multiset<std::string> rows_;
};

// Descriptors in the table's terms.
class Describer {
 public:
  Describer(std::string file, Table& table) : file_(std::move(file)), table_(table) {}

  // `row`: with a row for the file itself.
  void File(const pb::FileDescriptor& file, bool row) {
    const bool proto3 = file.syntax() == pb::FileDescriptor::SYNTAX_PROTO3;
    if (row) {
      table_.Add({"file", file_, file.package(), file_, "-", "-", "-", "-", "-", "-", "-", "-",
                  proto3 ? "syntax=proto3" : "syntax=proto2"});
    }
    for (int i = 0; i < file.message_type_count(); ++i) Message(*file.message_type(i));
    for (int i = 0; i < file.enum_type_count(); ++i) Enum(*file.enum_type(i));
    for (int i = 0; i < file.service_count(); ++i) Service(*file.service(i));
    EXPECT_EQ(file.extension_count(), 0) << file_;
  }

 private:
  void Message(const pb::Descriptor& message) {
    if (message.options().map_entry()) return;
    table_.Add({"message", file_, message.full_name(), message.name(), "-", "-", "-", "-", "-", "-",
                "-", "-",
                absl::StrCat("fields=", message.field_count(),
                             message.options().deprecated() ? ",deprecated" : "")});
    for (int i = 0; i < message.field_count(); ++i) Field(*message.field(i));
    for (int i = 0; i < message.nested_type_count(); ++i) Message(*message.nested_type(i));
    for (int i = 0; i < message.enum_type_count(); ++i) Enum(*message.enum_type(i));
    for (int i = 0; i < message.reserved_range_count(); ++i) {
      const auto& range = *message.reserved_range(i);
      for (int number = range.start; number < range.end; ++number) {
        table_.Add({"reserved", file_, message.full_name(), "-", absl::StrCat(number)});
      }
    }
    for (int i = 0; i < message.reserved_name_count(); ++i) {
      table_.Add({"reserved", file_, message.full_name(), message.reserved_name(i), "-"});
    }
  }

  static std::string TypeOf(const pb::FieldDescriptor& field) {
    if (field.is_map()) {
      const pb::Descriptor& entry = *field.message_type();
      return absl::StrCat("map<", TypeOf(*entry.map_key()), ",", TypeOf(*entry.map_value()), ">");
    }
    if (field.message_type() != nullptr) return field.message_type()->full_name();
    if (field.enum_type() != nullptr) return field.enum_type()->full_name();
    return field.type_name();
  }

  static std::string PresenceOf(const pb::FieldDescriptor& field) {
    if (field.is_repeated()) return "none";
    if (field.has_optional_keyword()) return "explicit(optional)";
    if (field.real_containing_oneof() != nullptr) return "explicit(oneof)";
    return field.message_type() != nullptr ? "explicit(message)" : "implicit";
  }

  void Field(const pb::FieldDescriptor& field) {
    std::vector<std::string> notes;
    if (field.is_packed()) notes.push_back("packed");
    if (field.options().deprecated()) notes.push_back("deprecated");
    table_.Add(
        {"field", file_, field.containing_type()->full_name(), field.name(),
         absl::StrCat(field.number()), TypeOf(field),
         field.is_map() ? "map" : (field.is_repeated() ? "repeated" : "singular"),
         field.real_containing_oneof() != nullptr ? field.real_containing_oneof()->name() : "-",
         PresenceOf(field), "-", "-", "-", absl::StrJoin(notes, ",")});
  }

  void Enum(const pb::EnumDescriptor& type) {
    table_.Add({"enum", file_, type.full_name(), type.name()});
    for (int i = 0; i < type.value_count(); ++i) {
      table_.Add({"enumvalue", file_, type.full_name(), type.value(i)->name(),
                  absl::StrCat(type.value(i)->number())});
    }
  }

  void Service(const pb::ServiceDescriptor& service) {
    table_.Add({"service", file_, service.full_name(), service.name(), "-", "-", "-", "-", "-", "-",
                "-", "-", absl::StrCat("path prefix /", service.full_name(), "/")});
    for (int i = 0; i < service.method_count(); ++i) {
      const pb::MethodDescriptor& method = *service.method(i);
      table_.Add({"rpc", file_, service.full_name(), method.name(), "-",
                  method.input_type()->full_name(), "-", "-", "-",
                  method.output_type()->full_name(), method.client_streaming() ? "yes" : "no",
                  method.server_streaming() ? "yes" : "no"});
    }
  }

  const std::string file_;
  Table& table_;
};

class Errors : public pb::compiler::MultiFileErrorCollector {
 public:
  void AddError(const std::string& file, int line, int, const std::string& message) override {
    ADD_FAILURE() << file << ":" << line + 1 << ": " << message;
  }
};

// Names below `directory`, with slashes.
std::set<std::string> ProtoFiles(const std::string& directory, const std::string& prefix = "") {
  std::set<std::string> result;
  DIR* listing = ::opendir((directory + prefix).c_str());
  if (listing == nullptr) return result;
  while (struct dirent* entry = ::readdir(listing)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat st;
    if (::stat((directory + prefix + name).c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
      result.merge(ProtoFiles(directory, prefix + name + "/"));
    } else if (name.size() > 6 && name.substr(name.size() - 6) == ".proto") {
      result.insert(prefix + name);
    }
  }
  ::closedir(listing);
  return result;
}

std::vector<std::string> Without(const std::multiset<std::string>& left,
                                 const std::multiset<std::string>& right) {
  std::vector<std::string> result;
  std::set_difference(left.begin(), left.end(), right.begin(), right.end(),
                      std::back_inserter(result));
  return result;
}

Table ReadFacts(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.is_open()) << path;
  Table facts;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) facts.Add(absl::StrSplit(line, '\t'));
  return facts;
}

// Describes the files below `directory`. With `one_file` the table has one file only, of that name,
// which we keep as several.
Table Describe(const std::string& directory, const std::string& one_file = "") {
  pb::compiler::DiskSourceTree tree;
  tree.MapPath("", ".");
  tree.MapPath("", "/usr/include");
  Errors errors;
  pb::compiler::Importer importer(&tree, &errors);
  Table ours;
  bool first = true;
  for (const std::string& name : ProtoFiles(directory)) {
    const pb::FileDescriptor* file = importer.Import(directory + name);
    EXPECT_NE(file, nullptr) << name;
    if (file == nullptr) continue;
    Describer(one_file.empty() ? name : one_file, ours).File(*file, one_file.empty() || first);
    first = false;
  }
  return ours;
}

void ExpectSame(const Table& facts, const Table& ours) {
  for (const std::string& row : Without(facts.rows(), ours.rows()))
    ADD_FAILURE() << "missing: " << row;
  for (const std::string& row : Without(ours.rows(), facts.rows()))
    ADD_FAILURE() << "extra:   " << row;
}

TEST(WireTest, ContainerdApiIsTheFactTable) {
  const Table facts = ReadFacts("proto/testdata/containerd.tsv");
  ASSERT_GT(facts.rows().size(), 1000u);
  ExpectSame(facts, Describe("proto/containerd/"));
}

TEST(WireTest, CriIsTheFactTable) {
  const Table facts = ReadFacts("proto/testdata/cri.tsv");
  ASSERT_GT(facts.rows().size(), 800u);
  ExpectSame(facts, Describe("proto/cri/v1/", "api.proto"));
}

TEST(WireTest, NriIsTheFactTable) {
  const Table facts = ReadFacts("proto/testdata/nri.tsv");
  ASSERT_GT(facts.rows().size(), 400u);
  ExpectSame(facts, Describe("proto/nri/", "nri/api.proto"));
}

// The parts of it that Gantry speaks; the table has no other rows.
TEST(WireTest, BuildkitApiIsTheFactTable) {
  const Table facts = ReadFacts("proto/testdata/buildkit.tsv");
  ASSERT_GT(facts.rows().size(), 300u);
  ExpectSame(facts, Describe("proto/buildkit/"));
}

}  // namespace
}  // namespace gantry
