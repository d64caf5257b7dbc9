// Tables, templates and listings are tested together, because --format uses all of them.
#include "ctl/listing.h"

#include <gtest/gtest.h>

#include "absl/strings/str_join.h"

#include "ctl/go_template.h"
#include "ctl/table.h"

namespace gantry::ctl {
namespace {

Value Data() {
  Value state;
  state.Set("Running", true).Set("ExitCode", 3);
  Value labels;
  labels.Set("b", "2").Set("a", "1");
  Value mount;
  mount.Set("Source", "/a");
  Value mounts;
  mounts.Append(mount);
  Value value;
  value.Set("Name", "/web")
      .Set("State", state)
      .Set("Env", Value::Strings({"A=1", "B=2"}))
      .Set("Labels", labels)
      .Set("Mounts", mounts)
      .Set("Nothing", Value())
      .Set("Size", int64_t{1234567890123});
  return value;
}

std::string Expand(absl::string_view text) {
  auto parsed = GoTemplate::Parse(text);
  if (!parsed.ok()) return parsed.status().ToString();
  auto result = parsed->Execute(Data(), true);
  return result.ok() ? *result : result.status().ToString();
}

TEST(GoTemplateTest, FieldsAndText) {
  EXPECT_EQ(Expand("<{{.Name}} {{.State.ExitCode}}>"), "</web 3>");
  EXPECT_EQ(Expand("{{.Size}}"), "1234567890123");
  EXPECT_EQ(Expand("{{.State}}"), "map[ExitCode:3 Running:true]");
}

TEST(GoTemplateTest, AnActionWithoutEndIsShownAsItStands) {
  EXPECT_EQ(Expand("{{.Name}} {{.State"),
            "INVALID_ARGUMENT: template: \"{{.State\" has no end: \"}}\" is missing");
}

TEST(GoTemplateTest, NamedTemplates) {
  EXPECT_EQ(Expand("{{define \"row\"}}<{{.}}>{{end}}{{range .Env}}{{template \"row\" .}}{{end}}"),
            "<A=1><B=2>");
  EXPECT_EQ(Expand("{{block \"b\" .Name}}[{{.}} {{$}}]{{end}}"), "[/web /web]");
  EXPECT_EQ(Expand("{{define \"x\"}}{{$v}}{{end}}{{$v := 1}}{{template \"x\"}}"),
            "INVALID_ARGUMENT: template: {{$v}}: undefined variable \"$v\"");
  EXPECT_EQ(Expand("{{template \"none\"}}"),
            "INVALID_ARGUMENT: template: {{template \"none\"}}: template \"none\" not defined");
  EXPECT_EQ(Expand("{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}").substr(0, 16),
            "INVALID_ARGUMENT");
}

TEST(GoTemplateTest, UrlQuery) { EXPECT_EQ(Expand("{{urlquery \"a b&c\"}}"), "a+b%26c"); }

TEST(GoTemplateTest, TypesOfValues) {
  EXPECT_EQ(Expand("{{printf \"%T %T %T\" .Name .Size .State.Running}}"), "string int bool");
  EXPECT_EQ(Expand("{{printf \"%T|%T|%T\" .Env .State nil}}"),
            "[]interface {}|map[string]interface {}|<nil>");
}

TEST(GoTemplateTest, CallIsKnownThoughNoValueIsAFunction) {
  EXPECT_EQ(Expand("{{call .Name}}"),
            "INVALID_ARGUMENT: template: {{call .Name}}: call: a value of type string is not a "
            "function");
}

TEST(GoTemplateTest, TextForOtherLanguages) {
  EXPECT_EQ(Expand("{{html \"<a b='c'>\"}}"), "&lt;a b=&#39;c&#39;&gt;");
  EXPECT_EQ(Expand("{{js \"it's <b>\"}}"), "it\\'s \\u003Cb\\u003E");
}

TEST(GoTemplateTest, AbsentFieldsHaveTheirTypesZeroValue) {
  const AbsentFields absent =
      [](const std::vector<std::string>& path) -> absl::optional<absl::string_view> {
    const std::string joined = absl::StrJoin(path, ".");
    if (joined == "State.Health") return "nil";
    if (joined == "Nothing") return "[]";
    if (path.size() == 2 && path[0] == "Labels") return "<no value>";
    if (joined == "Mounts.#.Driver") return "\"\"";
    if (joined == "Title") return "=Name";
    return absl::nullopt;
  };
  const auto expand = [&](absl::string_view text) {
    auto result = GoTemplate::Parse(text)->Execute(Data(), true, absent);
    return result.ok() ? *result : result.status().ToString();
  };
  EXPECT_EQ(expand("{{.State.Health}} {{.Nothing}} {{.Labels.x}} {{.Title}}"),
            "<nil> [] <no value> /web");
  EXPECT_EQ(expand("{{range .Mounts}}[{{.Driver}}]{{end}}{{(index .Mounts 0).Driver}}"), "[]");
  EXPECT_EQ(expand("{{with .State}}{{.Health}}{{end}}"), "<nil>");
  EXPECT_EQ(expand("{{.State.Health.Status}}").substr(0, 16), "INVALID_ARGUMENT");
}

TEST(GoTemplateTest, StructsArePrintedWithoutNames) {
  const AbsentFields absent =
      [](const std::vector<std::string>& path) -> absl::optional<absl::string_view> {
    const std::string joined = absl::StrJoin(path, ".");
    if (joined == "State.{}") return "ExitCode { Running Paused=false } Health=<nil>";
    if (joined == "Mounts.#.{}") return "%[Source]->[Nothing]";
    if (joined == "Labels.{}") return absl::nullopt;
    return absl::nullopt;
  };
  const auto expand = [&](absl::string_view text) {
    auto result = GoTemplate::Parse(text)->Execute(Data(), true, absent);
    return result.ok() ? *result : result.status().ToString();
  };
  EXPECT_EQ(expand("{{.State}}"), "{3 {true false} <nil>}");
  EXPECT_EQ(expand("{{(index .Mounts 0)}}"), "/a->");
  EXPECT_EQ(expand("{{printf \"%v\" .State}}"), "{3 {true false} <nil>}");
  EXPECT_EQ(expand("{{json .State}}"), R"({"Running":true,"ExitCode":3})");
}

TEST(GoTemplateTest, DurationsAreGos) {
  const AbsentFields absent =
      [](const std::vector<std::string>& path) -> absl::optional<absl::string_view> {
    if (path.size() == 2 && path[0] == "Check" && path[1] == "{}")
      return "A:ns=0s B:ns=0s C:ns D:ns E";
    return absl::nullopt;
  };
  Value check = Value::EmptyObject();
  check.Set("A", int64_t{90} * 1000000000);
  check.Set("C", 1500000);
  check.Set("D", int64_t{3600} * 1000000000);
  check.Set("E", 7);
  Value data = Value::EmptyObject();
  data.Set("Check", std::move(check));
  const auto expand = [&](absl::string_view text) {
    return GoTemplate::Parse(text)->Execute(data, true, absent).value_or("failed");
  };
  EXPECT_EQ(expand("{{.Check}}"), "{1m30s 0s 1.5ms 1h0m0s 7}");
  EXPECT_EQ(expand("{{.Check.A}} {{.Check.E}}"), "1m30s 7");
}

TEST(GoTemplateTest, Json) {
  EXPECT_EQ(Expand("{{json .State}}"), R"({"Running":true,"ExitCode":3})");
  EXPECT_EQ(Expand("{{.Env | json}}"), R"(["A=1","B=2"])");
}

TEST(GoTemplateTest, RangeOverListsAndMaps) {
  EXPECT_EQ(Expand("{{range .Env}}{{.}};{{end}}"), "A=1;B=2;");
  EXPECT_EQ(Expand("{{range $i, $e := .Env}}{{$i}}={{$e}} {{end}}"), "0=A=1 1=B=2 ");
  EXPECT_EQ(Expand("{{range $k, $v := .Labels}}{{$k}}:{{$v}},{{end}}"), "a:1,b:2,");
  EXPECT_EQ(Expand("{{range .Nothing}}x{{else}}none{{end}}"), "none");
  EXPECT_EQ(Expand("{{range .Env}}{{$.Name}}{{end}}"), "/web/web");
}

TEST(GoTemplateTest, IfElse) {
  EXPECT_EQ(Expand("{{if .State.Running}}up{{else}}down{{end}}"), "up");
  EXPECT_EQ(
      Expand(
          "{{if eq .State.ExitCode 0}}zero{{else if gt .State.ExitCode 2}}many{{else}}few{{end}}"),
      "many");
  EXPECT_EQ(Expand("{{if and .State.Running (not .Nothing)}}yes{{end}}"), "yes");
}

TEST(GoTemplateTest, WithAndVariables) {
  EXPECT_EQ(Expand("{{with .State}}{{.ExitCode}}{{end}}"), "3");
  EXPECT_EQ(Expand("{{with .Nothing}}x{{else}}no{{end}}"), "no");
  EXPECT_EQ(Expand("{{$n := .Name}}{{range .Env}}{{$n}}{{end}}"), "/web/web");
  EXPECT_EQ(Expand("{{$c := 1}}{{range .Env}}{{$c = 2}}{{end}}{{$c}}"), "2");
}

TEST(GoTemplateTest, Functions) {
  EXPECT_EQ(Expand("{{index .Env 1}}"), "B=2");
  EXPECT_EQ(Expand("{{index .Labels \"a\"}}"), "1");
  EXPECT_EQ(Expand("{{(index .Mounts 0).Source}}"), "/a");
  EXPECT_EQ(Expand("{{join .Env \",\"}}"), "A=1,B=2");
  EXPECT_EQ(Expand("{{upper .Name}} {{len .Env}} {{slice .Name 1}}"), "/WEB 2 web");
  EXPECT_EQ(Expand("{{println .Name}}"), "/web\n");
  EXPECT_EQ(Expand("{{printf \"%-6s|%05d|%q\" .Name .State.ExitCode .Name}}"),
            "/web  |00003|\"/web\"");
  EXPECT_EQ(Expand("{{truncate .Name 2}}{{pad \"x\" 1 2}}|"), "/w x  |");
  EXPECT_EQ(Expand("{{range split .Name \"e\"}}[{{.}}]{{end}}"), "[/w][b]");
  EXPECT_EQ(Expand("{{split .Name \"/\"}}"), "[ web]");
}

TEST(GoTemplateTest, TrimMarkersAndComments) {
  EXPECT_EQ(Expand("a  {{- /* no */ -}}  b"), "ab");
  EXPECT_EQ(Expand("a {{- .State.ExitCode -}} b"), "a3b");
}

TEST(GoTemplateTest, MissingFieldNamesWhatThereIs) {
  const std::string text = Expand("{{.Nmae}}");
  EXPECT_NE(text.find("no field \"Nmae\""), std::string::npos) << text;
  EXPECT_NE(text.find("Name"), std::string::npos) << text;
}

TEST(GoTemplateTest, RefusesWhatDoesNotParse) {
  for (const char* text :
       {"{{", "{{.A", "{{if .A}}", "{{end}}", "{{nosuch .A}}", "{{range}}{{end}}", "{{\"a}}",
        "{{.A | }}", "{{(.A}}", "{{if .A}}{{else}}{{else}}{{end}}"}) {
    EXPECT_FALSE(GoTemplate::Parse(text).ok()) << text;
  }
}

TEST(GoTemplateTest, DeepNestingIsRefusedNotFollowed) {
  EXPECT_FALSE(GoTemplate::Parse("{{" + std::string(100000, '(') + "}}").ok());
}

TEST(TableTest, ColumnsAreAtLeastTenWideAndThreeApart) {
  EXPECT_EQ(AlignColumns("ID\tNAME\n0123456789ab\tx\n"), "ID             NAME\n0123456789ab   x\n");
  EXPECT_EQ(AlignColumns("A\tB\tC\n1\t2\t3\n"), "A         B         C\n1         2         3\n");
}

TEST(TableTest, WideCharactersAreCountedAsCharacters) {
  EXPECT_EQ(AlignColumns("└─ linux/amd64\tx\nplain\ty\n"),
            "└─ linux/amd64   x\nplain            y\n");
}

Listing TwoFields() {
  Listing listing;
  listing.headings = {{"ID", "IMAGE ID"}, {"Name", "NAME"}};
  listing.default_table = "{{.ID}}\t{{.Name}}";
  listing.quiet_field = "ID";
  return listing;
}

std::vector<Value> OneRow() {
  Value labels;
  labels.Set("team", "web");
  Value row;
  row.Set("ID", "abc").Set("Name", "web").Set("Labels", "team=web").Set("LabelMap", labels);
  return {row};
}

TEST(ListingTest, DefaultTableHasHeadings) {
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "", false), "IMAGE ID   NAME\nabc        web\n");
  EXPECT_EQ(*Render(TwoFields(), {}, "table", false), "IMAGE ID   NAME\n");
}

TEST(ListingTest, FieldsForTemplatesAreNotShown) {
  std::vector<Value> rows = OneRow();
  rows[0].Set("Platform", Value::EmptyObject()).Set("PlatformText", "linux/amd64");
  EXPECT_EQ(*Render(TwoFields(), rows, "{{.Platform}}", false), "linux/amd64\n");
  for (const char* format : {"json", "{{json .}}"}) {
    const std::string text = *Render(TwoFields(), rows, format, false);
    EXPECT_NE(text.find("\"Platform\":{}"), std::string::npos) << text;
    EXPECT_EQ(text.find("PlatformText"), std::string::npos) << text;
    EXPECT_EQ(text.find("LabelMap"), std::string::npos) << text;
  }
}

TEST(ListingTest, QuietShowsIdsOnly) {
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "", true), "abc\n");
}

TEST(ListingTest, TemplatesOfEachKind) {
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "{{.Name}}:{{.ID}}", false), "web:abc\n");
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "table {{.Name}}\\t{{.ID}}", false),
            "NAME      IMAGE ID\nweb       abc\n");
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "{{.Label \"team\"}}", false), "web\n");
}

TEST(ListingTest, JsonIsALineARowWithoutHelpers) {
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "json", false),
            "{\"ID\":\"abc\",\"Name\":\"web\",\"Labels\":\"team=web\"}\n");
  EXPECT_EQ(*Render(TwoFields(), OneRow(), "{{json .}}", false),
            "{\"ID\":\"abc\",\"Name\":\"web\",\"Labels\":\"team=web\"}\n");
}

TEST(ListingTest, OneObject) {
  Value value;
  value.Set("A", 1);
  EXPECT_EQ(*RenderOne(value, ""), "{\n    \"A\": 1\n}\n");
  EXPECT_EQ(*RenderOne(value, "json"), "{\"A\":1}\n");
  EXPECT_EQ(*RenderOne(value, "{{.A}}"), "1\n");
  EXPECT_FALSE(RenderOne(value, "{{.B}}").ok());
}

}  // namespace
}  // namespace gantry::ctl
