#include "base/engine/volume_json.h"

#include <string>

#include "gtest/gtest.h"

#include "base/engine/value.h"

namespace gantry::engine {
namespace {

v1::Volume Data() {
  v1::Volume volume;
  volume.set_name("data");
  volume.set_driver("local");
  volume.set_mountpoint("/var/lib/gantry/volumes/data/_data");
  volume.set_scope("local");
  volume.mutable_created_at()->set_seconds(1700000000);
  volume.mutable_created_at()->set_nanos(5);
  volume.set_size_bytes(-1);
  return volume;
}

TEST(VolumeJsonTest, DocumentIsDockers) {
  EXPECT_EQ(VolumeDocument(Data()).ToJson(),
            R"({"CreatedAt":"2023-11-14T22:13:20Z","Driver":"local","Labels":null,)"
            R"("Mountpoint":"/var/lib/gantry/volumes/data/_data","Name":"data","Options":null,)"
            R"("Scope":"local"})");
}

TEST(VolumeJsonTest, DocumentOfAMeasuredVolumeSaysHowItIsUsed) {
  v1::Volume volume = Data();
  volume.set_size_bytes(4096);
  volume.add_container_ids("c0ffee");
  (*volume.mutable_labels())["tier"] = "db";
  (*volume.mutable_options())["type"] = "tmpfs";
  const Value document = VolumeDocument(volume);
  EXPECT_EQ(document.Find("UsageData")->ToJson(), R"({"RefCount":1,"Size":4096})");
  EXPECT_EQ(document.Find("Labels")->ToJson(), R"({"tier":"db"})");
  EXPECT_EQ(document.Find("Options")->ToJson(), R"({"type":"tmpfs"})");
}

TEST(VolumeJsonTest, RowIsDockers) {
  v1::Volume volume = Data();
  (*volume.mutable_labels())["b"] = "2";
  (*volume.mutable_labels())["a"] = "1";
  EXPECT_EQ(VolumeRow(volume).ToJson(),
            R"({"Availability":"N/A","Driver":"local","Group":"N/A",)"
            R"("LabelMap":{"a":"1","b":"2"},"Labels":"a=1,b=2",)"
            R"("Links":"N/A","Mountpoint":"/var/lib/gantry/volumes/data/_data","Name":"data",)"
            R"("Scope":"local","Size":"N/A","Status":"N/A"})");
}

}  // namespace
}  // namespace gantry::engine
