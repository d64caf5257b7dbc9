#include "supervisor/task_metric_text.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry {
namespace {

using testing::HasSubstr;
using testing::Not;

TaskStats Task(const std::string& id, bool cgroup_v2) {
  TaskStats task = {"web", id, {}};
  task.stats.set_cgroup_v2(cgroup_v2);
  task.stats.set_cpu_usage_nanos(5000);
  task.stats.set_memory_usage_bytes(4096);
  task.stats.set_pids_current(3);
  (*task.stats.mutable_memory_stat())["rss"] = 7;
  (*task.stats.mutable_memory_stat())["anon"] = 8;
  shim::v1::StatsResponse::BlockIo* io = task.stats.add_block_io();
  io->set_major(8);
  io->set_minor(1);
  io->set_read_bytes(10);
  io->set_write_bytes(20);
  return task;
}

std::string TextOf(const std::vector<TaskStats>& tasks) {
  api::MetricText out;
  WriteTaskStats(tasks, out);
  return out.text();
}

TEST(TaskMetricTextTest, CgroupV2HasContainerdsNames) {
  const std::string text = TextOf({Task("one", true), Task("two", true)});
  for (const char* line : {
           "container_pids_current{container_id=\"one\",namespace=\"web\"} 3\n",
           "container_pids_current{container_id=\"two\",namespace=\"web\"} 3\n",
           "container_cpu_usage_usec_microseconds{container_id=\"one\",namespace=\"web\"} 5\n",
           "container_memory_usage_bytes{container_id=\"one\",namespace=\"web\"} 4096\n",
           "container_memory_anon_bytes{container_id=\"one\",namespace=\"web\"} 8\n",
           "container_io_rbytes_bytes{container_id=\"one\",namespace=\"web\",major=\"8\",minor="
           "\"1\"} "
           "10\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("_rss_")));
}

TEST(TaskMetricTextTest, CgroupV1HasContainerdsNames) {
  const std::string text = TextOf({Task("one", false)});
  for (const char* line : {
           "container_cpu_total_nanoseconds{container_id=\"one\",namespace=\"web\"} 5000\n",
           "container_memory_usage_usage_bytes{container_id=\"one\",namespace=\"web\"} 4096\n",
           "container_memory_rss_bytes{container_id=\"one\",namespace=\"web\"} 7\n",
           "container_blkio_io_service_bytes_recursive_bytes{container_id=\"one\",namespace="
           "\"web\","
           "op=\"Write\",device=\"\",major=\"8\",minor=\"1\"} 20\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(TaskMetricTextTest, NoTaskNoFamily) { EXPECT_EQ(TextOf({}), ""); }

}  // namespace
}  // namespace gantry
