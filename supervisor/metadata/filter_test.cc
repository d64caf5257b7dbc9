#include "supervisor/metadata/filter.h"

#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "supervisor/metadata/record_fields.h"

namespace gantry::metadata {
namespace {

// An object with plain fields by joined path, for the language as such.
bool MatchesOn(const std::vector<std::string>& texts,
               const std::map<std::string, std::string>& object) {
  absl::StatusOr<Filter> filter = Filter::Parse(texts);
  EXPECT_TRUE(filter.ok()) << filter.status();
  if (!filter.ok()) return false;
  return filter->Matches(
      [&object](absl::Span<const std::string> path) { return MapField(object, path); });
}

const std::map<std::string, std::string>& Object() {
  static const auto& object =
      *new std::map<std::string, std::string>{{"id", "web-1"},
                                              {"labels.env", "prod"},
                                              {"labels.com.example/a b", "x,y"},
                                              {"labels.empty", ""}};
  return object;
}

TEST(FilterTest, NothingMatchesEverything) {
  EXPECT_TRUE(MatchesOn({}, Object()));
  EXPECT_TRUE(MatchesOn({""}, Object()));
  EXPECT_TRUE(MatchesOn({"id==other", ""}, Object()));
  EXPECT_TRUE(Filter::Parse({})->matches_everything());
  EXPECT_FALSE(Filter::Parse({"id"})->matches_everything());
}

TEST(FilterTest, OperatorsOnAPresentField) {
  EXPECT_TRUE(MatchesOn({"id"}, Object()));
  EXPECT_TRUE(MatchesOn({"id==web-1"}, Object()));
  EXPECT_FALSE(MatchesOn({"id==web"}, Object()));
  EXPECT_FALSE(MatchesOn({"id!=web-1"}, Object()));
  EXPECT_TRUE(MatchesOn({"id!=web"}, Object()));
  EXPECT_TRUE(MatchesOn({"id~=eb"}, Object()));
  EXPECT_FALSE(MatchesOn({"id~=^eb"}, Object()));
}

TEST(FilterTest, OperatorsOnAnAbsentField) {
  EXPECT_FALSE(MatchesOn({"image"}, Object()));
  EXPECT_FALSE(MatchesOn({"image==x"}, Object()));
  EXPECT_FALSE(MatchesOn({"image==\"\""}, Object()));
  EXPECT_TRUE(MatchesOn({"image!=x"}, Object()));
  EXPECT_TRUE(MatchesOn({"image~=^$"}, Object()));
  EXPECT_FALSE(MatchesOn({"image~=x"}, Object()));
}

TEST(FilterTest, SelectorsAreAndedTextsAreOred) {
  EXPECT_TRUE(MatchesOn({"id==web-1,labels.env==prod"}, Object()));
  EXPECT_FALSE(MatchesOn({"id==web-1,labels.env==test"}, Object()));
  EXPECT_TRUE(MatchesOn({"labels.env==test", "id==web-1"}, Object()));
}

TEST(FilterTest, WhiteSpaceBetweenTokensIsSkipped) {
  EXPECT_TRUE(MatchesOn({"id==web-1, labels.env==prod"}, Object()));
  EXPECT_TRUE(MatchesOn({"  id == web-1 ,labels.env  ==  prod "}, Object()));
}

TEST(FilterTest, MapKeysMayBeQuotedOrDotted) {
  EXPECT_TRUE(MatchesOn({R"(labels."com.example/a b"=="x,y")"}, Object()));
  const std::map<std::string, std::string> dotted = {{"labels.foo.bar", "1"}};
  EXPECT_TRUE(MatchesOn({"labels.foo.bar==1"}, dotted));
  EXPECT_TRUE(MatchesOn({"labels.\"foo.bar\"==1"}, dotted));
}

TEST(FilterTest, RegexDelimitersNeedNoSecondEscaping) {
  EXPECT_TRUE(MatchesOn({R"(id~=/^web-\d$/)"}, Object()));
  EXPECT_TRUE(MatchesOn({R"(id~=|^web-\d$|,labels.env)"}, Object()));
  EXPECT_TRUE(MatchesOn({R"(path~=/a\/b/)"}, {{"path", "xa/b"}}));
  EXPECT_TRUE(MatchesOn({"topic~=|^/tasks/|"}, {{"topic", "/tasks/exit"}}));
}

TEST(FilterTest, QuotedValuesKnowEscapes) {
  EXPECT_TRUE(MatchesOn({R"(a=="tab\tquote\"")"}, {{"a", "tab\tquote\""}}));
}

TEST(FilterTest, MalformedTextsAreInvalid) {
  for (const char* text :
       {"id=", "id==", "=x", "id===", "id=x", ",", "id,", "id==a b", "labels.", "labels..a",
        "id==\"open", "id~=/open", "\"open", "id ! x", "id==a\"b\"", "a.\"x\"y", "id==\"\\z\""}) {
    const absl::Status status = Filter::Parse({text}).status();
    if (std::string(text) == "id===") {
      EXPECT_TRUE(status.ok());  // the value is "="
      continue;
    }
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text << ": " << status;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Filter::Parse({std::string(100 << 10, 'a')}).status()));
}

TEST(FilterTest, ExpressionsThatDoNotCompileOrAreTooLargeMatchNothing) {
  for (const char* text : {"id~=(", "id~=((((a{100}){100}){100}){100})"}) {
    const absl::StatusOr<Filter> filter = Filter::Parse({text});
    ASSERT_TRUE(filter.ok()) << filter.status();
    EXPECT_FALSE(filter->Matches([](absl::Span<const std::string>) { return "a"; })) << text;
  }
}

TEST(FilterTest, RandomTextsAreParsedOrRefusedAndNothingElse) {
  // Pieces rather than characters, so that most of a text makes sense.
  static const std::vector<std::string> kPieces = {"id",
                                                   "labels",
                                                   ".",
                                                   "\"a b\"",
                                                   "==",
                                                   "!=",
                                                   "~=",
                                                   "=",
                                                   ",",
                                                   " ",
                                                   "/x/",
                                                   "|y|",
                                                   "\\",
                                                   "\"",
                                                   "(",
                                                   ")*",
                                                   std::string(1, '\0'),
                                                   "\xff"};
  std::mt19937 random(1);
  int parsed = 0, refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (size_t n = 1 + random() % 10; n > 0; --n) text += kPieces[random() % kPieces.size()];
    const absl::StatusOr<Filter> filter = Filter::Parse({text});
    if (filter.ok()) {
      ++parsed;
      filter->Matches([](absl::Span<const std::string> path) -> std::optional<std::string> {
        EXPECT_FALSE(path.empty());
        return MapKey(path);
      });
    } else {
      ++refused;
      EXPECT_TRUE(absl::IsInvalidArgument(filter.status())) << filter.status();
    }
  }
  EXPECT_GT(parsed, 500);
  EXPECT_GT(refused, 500);
}

TEST(RecordFieldsTest, Container) {
  record::v1::Container container;
  container.set_id("c1");
  container.set_image("docker.io/library/x:1");
  container.mutable_runtime()->set_name("io.containerd.runc.v2");
  (*container.mutable_labels())["a.b/c"] = "1";
  auto matches = [&](const std::string& text) {
    return Filter::Parse({text})->Matches(FieldsOf(container));
  };
  EXPECT_TRUE(matches("id==c1"));
  EXPECT_TRUE(matches("runtime.name~=runc"));
  EXPECT_TRUE(matches("image~=|/x:|"));
  EXPECT_TRUE(matches("labels.\"a.b/c\"==1"));
  EXPECT_FALSE(matches("labels"));
  EXPECT_FALSE(matches("runtime"));
  EXPECT_FALSE(matches("snapshotter"));
}

TEST(RecordFieldsTest, ImageSnapshotContentIngest) {
  record::v1::Image image;
  image.set_name("x");
  image.mutable_target()->set_digest("sha256:00");
  image.mutable_target()->set_media_type("application/json");
  (*image.mutable_target()->mutable_annotations())["k"] = "v";
  EXPECT_TRUE(
      Filter::Parse(
          {"name==x,target.digest~=^sha256:,target.mediatype==application/json,annotations.k==v"})
          ->Matches(FieldsOf(image)));
  const snapshot::Info snapshot{.kind = snapshot::Kind::kCommitted,
                                .name = "n",
                                .parent = "p",
                                .labels = {{"l", "1"}},
                                .created_at = {},
                                .updated_at = {}};
  EXPECT_TRUE(
      Filter::Parse({"kind==committed,name==n,parent==p,labels.l"})->Matches(FieldsOf(snapshot)));
  EXPECT_FALSE(Filter::Parse({"kind==Committed"})->Matches(FieldsOf(snapshot)));
  content::Info content;
  content.digest = content::Digest::Sha256Of("x");
  content.size_bytes = 1;
  EXPECT_TRUE(Filter::Parse({"digest~=sha256"})->Matches(FieldsOf(content)));
  EXPECT_FALSE(Filter::Parse({"size"})->Matches(FieldsOf(content)));
  content::IngestStatus ingest;
  ingest.ref = "layer-1";
  EXPECT_TRUE(Filter::Parse({"ref~=layer"})->Matches(FieldsOf(ingest)));
}

}  // namespace
}  // namespace gantry::metadata
