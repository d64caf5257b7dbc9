// Keeps ThreadSanitizer out of RocksDB's group commit (--config=tsan only).
//
// Of the threads that write at the same time, one appends the batches of the others to its own and
// writes them all. That they wait for it, and with what, is ordered by atomics of a library that is
// not instrumented; and the copying is done by std::string, which belongs to everybody, so that no
// suppression by library hits it.

#include <dlfcn.h>
#include <rocksdb/status.h>
#include <rocksdb/write_batch.h>

extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);

namespace rocksdb {

// The library's own; its header is not installed.
class WriteBatchInternal {
 public:
  static Status Append(WriteBatch* to, const WriteBatch* from, bool wal_only);
};

Status WriteBatchInternal::Append(WriteBatch* to, const WriteBatch* from, bool wal_only) {
  static const auto next = reinterpret_cast<decltype(&WriteBatchInternal::Append)>(
      dlsym(RTLD_NEXT, "_ZN7rocksdb18WriteBatchInternal6AppendEPNS_10WriteBatchEPKS1_b"));
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  Status status = next(to, from, wal_only);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  return status;
}

}  // namespace rocksdb
