// Chooses the ids of a container's user namespace when it is created.
//
// Ids of "auto" are a block that no other container has, of this daemon's records in all
// namespaces; a block that was chosen is held until the container's record names it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_ID_CHOICE_H_
#define GANTRY_SUPERVISOR_CORE_ID_CHOICE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/id_map.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/subordinate_ids.h"

namespace gantry::core {

class ContainerRecords;
struct Stores;

// The first block of `size` ids in `blocks` that has none of `taken`, aligned to nothing.
// kResourceExhausted.
absl::StatusOr<uint32_t> FreeIds(const std::vector<IdBlock>& blocks, std::vector<IdBlock> taken,
                                 uint32_t size);

// The user namespaces of all containers with ids of their own, in all namespaces.
absl::StatusOr<std::vector<IdMaps>> IdsInUse(Stores& stores);

class IdChoice {
 public:
  struct Parts {
    std::string remap;      // the setting; "": containers have the host's ids by default
    std::string auto_user;  // whose ids "auto" gives out
    // The ids of all containers that there are.
    std::function<absl::StatusOr<std::vector<IdMaps>>()> in_use;
    std::string etc = "/etc";
  };
  explicit IdChoice(Parts parts) : parts_(std::move(parts)) {}

  // Keeps a block from others until destroyed. Move-only.
  class Chosen {
   public:
    Chosen() = default;
    ~Chosen();
    Chosen(Chosen&& other) noexcept { Swap(other); }
    Chosen& operator=(Chosen&& other) noexcept {
      Swap(other);
      return *this;
    }
    const IdMaps& ids() const { return ids_; }

   private:
    friend class IdChoice;
    void Swap(Chosen& other) noexcept {
      std::swap(choice_, other.choice_);
      std::swap(ids_, other.ids_);
      std::swap(number_, other.number_);
    }
    IdChoice* choice_ = nullptr;
    IdMaps ids_;
    uint64_t number_ = 0;
  };

  //   kFailedPrecondition  no ids are set aside for the user
  //   kResourceExhausted   "auto" has none left
  absl::StatusOr<Chosen> Choose(const UsernsMode& mode);

 private:
  absl::StatusOr<Chosen> ChooseFree(uint32_t size);
  void LetGo(uint64_t number);

  const Parts parts_;
  absl::Mutex choosing_;  // one "auto" at a time; held while records are read
  absl::Mutex mu_;
  std::map<uint64_t, IdMaps> held_ ABSL_GUARDED_BY(mu_);
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 1;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_ID_CHOICE_H_
