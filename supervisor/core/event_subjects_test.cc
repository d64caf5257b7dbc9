#include "supervisor/core/event_subjects.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

class EventSubjectsTest : public ContainerFixture {
 protected:
  std::string Labelled(const std::string& name) {
    v1::ContainerConfig config = Config();
    (*config.mutable_labels())["tier"] = name + "-tier";
    return Make(name, config);
  }
  void DeleteRecord(const std::string& id) { EXPECT_TRUE(containers_.Delete({kNs, ""}, id).ok()); }
  EventSubjects subjects_of_two_{containers_, names_, /*most_departed=*/2};
};

TEST_F(EventSubjectsTest, NameImageAndLabelsOfARecord) {
  const std::string id = Labelled("web");
  EXPECT_THAT(
      subjects_.Of(kNs, id),
      UnorderedElementsAre(Pair("name", "web"), Pair("image", "image"), Pair("tier", "web-tier")));
  EXPECT_THAT(subjects_.Of("other", id), IsEmpty());
  EXPECT_THAT(subjects_.Of(kNs, "unknown"), IsEmpty());
}

TEST_F(EventSubjectsTest, WhatHasDepartedIsKnownWithoutItsRecord) {
  const std::string id = Labelled("web");
  subjects_.Departs(kNs, id);
  DeleteRecord(id);
  EXPECT_THAT(subjects_.Of(kNs, id), testing::Contains(Pair("name", "web")));
}

TEST_F(EventSubjectsTest, OnlyTheLastOfThemAreKept) {
  const std::string ids[] = {Labelled("one"), Labelled("two"), Labelled("three")};
  for (const std::string& id : ids) {
    subjects_of_two_.Departs(kNs, id);
    DeleteRecord(id);
  }
  EXPECT_THAT(subjects_of_two_.Of(kNs, ids[0]), IsEmpty());
  EXPECT_THAT(subjects_of_two_.Of(kNs, ids[1]), testing::Contains(Pair("name", "two")));
  EXPECT_THAT(subjects_of_two_.Of(kNs, ids[2]), testing::Contains(Pair("name", "three")));
}

TEST_F(EventSubjectsTest, ADepartureThatDoesNotHappenDoesNoHarm) {
  const std::string id = Labelled("web");
  subjects_.Departs(kNs, id);
  subjects_.Departs(kNs, id);
  EXPECT_THAT(subjects_.Of(kNs, id), testing::Contains(Pair("name", "web")));
}

}  // namespace
}  // namespace gantry::core
