// What the shims answer name queries from, written by the supervisor:
//   the names file of a network     who is on it: names and addresses
//   the resolver file of a container  the networks it is on, its links, its servers
//
// Both are text of the same form: a first line with kind and version, then lines of words separated
// by one space. The supervisor replaces them whole, by a rename, so that a reader sees the old file
// or the new one and needs no supervisor to be there. The lines of a names file are sorted, and so
// a name is found in the mapped file by bisection: a shim keeps no copy of it.
//
//   gantry names 1                     gantry resolver 1
//   network web                        network /run/gantry/networks/default/4f…/names
//   name api 10.1.0.2                  link db 0123456789ab
//   name api 10.1.0.3                  server 10.9.9.9
//   address 10.1.0.2 Api               host-servers /etc/resolv.conf
//                                      single-labels-stay
//
// Readers check every byte and refuse files above kMaxNamesBytes. Values are thread-compatible, the
// functions thread-safe. A leaf: base and Abseil only, because each shim links it.
#ifndef GANTRY_SUPERVISOR_NETWORK_NAMES_FILE_H_
#define GANTRY_SUPERVISOR_NETWORK_NAMES_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::network {

inline constexpr size_t kMaxNamesBytes = 8 << 20;
inline constexpr size_t kMaxResolverBytes = 256 << 10;

// Whether a DNS message can carry it as names of networks and containers are written: 1 to 253
// bytes, labels of 1 to 63 printable ASCII characters but " ; \ ( ) @ $, separated by dots.
bool IsDnsName(absl::string_view name);

// An address in network order: 4 or 16 bytes.
struct NameAddress {
  uint8_t size = 0;
  uint8_t bytes[16] = {};

  static std::optional<NameAddress> Parse(absl::string_view text);
  std::string ToString() const;
  friend bool operator==(const NameAddress& a, const NameAddress& b);
};

// One container on a network.
struct NamedMember {
  std::string name;                    // the answer to a query for one of its addresses
  std::vector<std::string> names;      // what it is found by; `name` is not added by itself
  std::vector<std::string> addresses;  // without prefix lengths
};

// The names file's text. Names that no DNS message can carry, and addresses that are none, are left
// out.
//   kInvalidArgument    the network's name contains a space or a control character, or is empty
//   kResourceExhausted  larger than kMaxNamesBytes
absl::StatusOr<std::string> PrintNames(absl::string_view network,
                                       const std::vector<NamedMember>& members);

// The lines of a names file. A view: the text outlives it.
class NamesTable {
 public:
  NamesTable() = default;  // without a network and names
  // kDataLoss: not a whole names file of this version; the message says which line.
  static absl::StatusOr<NamesTable> Parse(absl::string_view text);

  absl::string_view network() const { return network_; }
  // Addresses of a name in lower case, in the file's order; at most `limit`.
  std::vector<NameAddress> Find(absl::string_view name, size_t limit = 256) const;
  // The container's name, "" when none has the address.
  absl::string_view NameOf(const NameAddress& address) const;

 private:
  // The first line of `part` whose text is not less than `key`.
  static size_t LowerBound(absl::string_view part, absl::string_view key);

  absl::string_view network_;
  absl::string_view names_;      // its "name" lines
  absl::string_view addresses_;  // its "address" lines
};

// Which version of a file was read. For finding out by one stat() whether there is another.
class FileVersion {
 public:
  // Whether `path` has another version now, which is then this object's. No file is a version too.
  bool Changed(const std::string& path);

 private:
  bool known_ = false;
  bool there_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  off_t size_ = 0;
  timespec changed_ = {};
};

// A names file as it is now, mapped. Thread-compatible.
class NamesFile {
 public:
  explicit NamesFile(std::string path) : path_(std::move(path)) {}
  ~NamesFile() { Unmap(); }
  NamesFile(const NamesFile&) = delete;
  NamesFile& operator=(const NamesFile&) = delete;

  const std::string& path() const { return path_; }
  // Maps the newest version. A file that is not there is an empty one. After an error the former
  // version stays, and the error is not repeated for the same version.
  absl::Status Refresh();
  // Until the next Refresh().
  const NamesTable& table() const { return table_; }

 private:
  void Unmap();

  const std::string path_;
  FileVersion version_;
  void* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  NamesTable table_;
};

// What one container's shim has to know.
struct ResolverConfig {
  std::vector<std::string> networks;  // paths of names files, the most important first
  // Names of the container's own for a neighbour: alias, and one of the neighbour's names.
  std::vector<std::pair<std::string, std::string>> links;
  // Asked for other names, from the container's network namespace.
  std::vector<std::string> servers;
  // A resolv.conf whose servers are asked from the host's namespace; "": none of those.
  std::string host_servers;
  // An unknown name without a dot exists nowhere: it is answered, not forwarded.
  bool single_labels_stay = false;

  friend bool operator==(const ResolverConfig&, const ResolverConfig&) = default;
};

// kInvalidArgument: a word is empty or contains a space or a control character, or a link's name is
// not a DNS name, or a server not an address.
absl::StatusOr<std::string> PrintResolver(const ResolverConfig& config);
// kDataLoss: not a whole resolver file of this version.
absl::StatusOr<ResolverConfig> ParseResolver(absl::string_view text);

// The servers that a resolv.conf names, in order, at most `limit`. What else is in it is passed
// over. Addresses may have a zone: "fe80::1%eth0".
std::vector<std::string> ServersOf(absl::string_view resolv_conf, size_t limit = 3);

// Replaces a file of this room at once, for readers that may hold the old one. Not synced: the
// files lie in the state directory, which does not outlive the host's run.
absl::Status ReplaceFile(const std::string& path, absl::string_view text);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_NAMES_FILE_H_
