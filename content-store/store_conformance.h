// What every Store must do, as a GoogleTest suite. An implementation instantiates it:
//
//   INSTANTIATE_TEST_SUITE_P(Fake, StoreConformance, testing::Values(StoreCase{
//       .name = "Fake",
//       .keeps_labels = true,
//       .make = [](const std::string&) { return std::make_shared<FakeStore>(); }}));
#ifndef GANTRY_CONTENT_STORE_STORE_CONFORMANCE_H_
#define GANTRY_CONTENT_STORE_STORE_CONFORMANCE_H_

#include <functional>
#include <memory>
#include <string>

#include "gtest/gtest.h"

#include "content-store/store.h"

namespace gantry::content {

struct StoreCase {
  std::string name;
  bool keeps_labels = true;
  // An empty store; `directory` is an empty one that outlives it. What the store needs beside it
  // lives in the deleter or in a class derived from it.
  std::function<std::shared_ptr<Store>(const std::string& directory)> make;
};

inline void PrintTo(const StoreCase& store_case, std::ostream* os) { *os << store_case.name; }

class StoreConformance : public testing::TestWithParam<StoreCase> {
 protected:
  StoreConformance();
  ~StoreConformance() override;
  Store& store() { return *store_; }

 private:
  std::string directory_;
  std::shared_ptr<Store> store_;
};

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_STORE_CONFORMANCE_H_
