#include "supervisor/core/id_choice.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/stores.h"

namespace gantry::core {
namespace {

void Add(const std::vector<IdRange>& ranges, std::vector<IdBlock>& out) {
  for (const IdRange& one : ranges) out.push_back({one.host_id, one.length});
}

}  // namespace

absl::StatusOr<uint32_t> FreeIds(const std::vector<IdBlock>& blocks, std::vector<IdBlock> taken,
                                 uint32_t size) {
  std::sort(taken.begin(), taken.end(),
            [](const IdBlock& a, const IdBlock& b) { return a.first < b.first; });
  for (const IdBlock& block : blocks) {
    uint64_t at = block.first;
    const uint64_t end = std::min<uint64_t>(uint64_t{block.first} + block.count, UINT32_MAX);
    for (const IdBlock& one : taken) {
      if (uint64_t{one.first} >= at + size) break;
      at = std::max(at, uint64_t{one.first} + one.count);
    }
    if (at + size <= end) return static_cast<uint32_t>(at);
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no ", size,
                   " ids in a row are free; make them fewer (--userns auto:size=N), "
                   "remove containers or give the user more ids"));
}

absl::StatusOr<std::vector<IdMaps>> IdsInUse(Stores& stores) {
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(stores.namespaces.List([&namespaces](const record::v1::Namespace& ns) {
    namespaces.push_back(ns.name());
    return absl::OkStatus();
  }));
  std::vector<IdMaps> used;
  for (const std::string& ns : namespaces) {
    GANTRY_RETURN_IF_ERROR(EachBriefly(stores, ns, [&used](const LoadedContainer& one) {
      IdMaps ids = IdsOf(one.config);
      if (!ids.empty()) used.push_back(std::move(ids));
    }));
  }
  return used;
}

IdChoice::Chosen::~Chosen() {
  if (choice_ != nullptr) choice_->LetGo(number_);
}

absl::StatusOr<IdChoice::Chosen> IdChoice::Choose(const UsernsMode& mode) {
  Chosen chosen;
  switch (mode.kind) {
    case UsernsMode::Kind::kHost:
      return chosen;
    case UsernsMode::Kind::kDefault:
      if (parts_.remap.empty()) return chosen;
      break;
    case UsernsMode::Kind::kRemap:
      break;
    case UsernsMode::Kind::kAuto:
      return ChooseFree(mode.size);
  }
  const std::string user = !mode.user.empty()     ? mode.user
                           : parts_.remap.empty() ? "default"
                                                  : parts_.remap;
  GANTRY_ASSIGN_OR_RETURN(chosen.ids_, RemapOf(parts_.etc, user));
  return chosen;
}

absl::StatusOr<IdChoice::Chosen> IdChoice::ChooseFree(uint32_t size) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<IdBlock> uids,
                          SubordinateUids(parts_.etc, parts_.auto_user));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<IdBlock> gids,
                          SubordinateGids(parts_.etc, parts_.auto_user));
  absl::MutexLock turn(&choosing_);
  // What is held is looked at first: its record may be written, and the hold given up, in between.
  std::vector<IdMaps> used;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [number, ids] : held_) used.push_back(ids);
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<IdMaps> recorded, parts_.in_use());
  used.insert(used.end(), recorded.begin(), recorded.end());
  std::vector<IdBlock> used_uids;
  std::vector<IdBlock> used_gids;
  for (const IdMaps& one : used) {
    Add(one.uids, used_uids);
    Add(one.gids, used_gids);
  }
  Chosen chosen;
  GANTRY_ASSIGN_OR_RETURN(const uint32_t uid, FreeIds(uids, std::move(used_uids), size));
  GANTRY_ASSIGN_OR_RETURN(const uint32_t gid, FreeIds(gids, std::move(used_gids), size));
  chosen.ids_ = {{{0, uid, size}}, {{0, gid, size}}};
  GANTRY_RETURN_IF_ERROR(CheckIdRanges("user ids", chosen.ids_.uids));
  GANTRY_RETURN_IF_ERROR(CheckIdRanges("group ids", chosen.ids_.gids));
  absl::MutexLock lock(&mu_);
  chosen.choice_ = this;
  chosen.number_ = next_++;
  held_[chosen.number_] = chosen.ids_;
  return chosen;
}

void IdChoice::LetGo(uint64_t number) {
  absl::MutexLock lock(&mu_);
  held_.erase(number);
}

}  // namespace gantry::core
