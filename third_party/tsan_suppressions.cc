// What ThreadSanitizer need not see (--config=tsan only).
//
// Debian's libraries are not instrumented: the sanitizer sees what they do to memory by way of the
// C library (copies, allocations, system calls), but not the atomics by which they order it. So
// what is called from these libraries is left out. What our own code does is never suppressed, and
// what is inline in their headers counts as ours.

extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return
      // gRPC: slices, calls and streams have counters of their own and go from thread to thread
      // through queues without locks.
      "called_from_lib:libgrpc++_unsecure.so\n"
      "called_from_lib:libgrpc_unsecure.so\n"
      "called_from_lib:libgpr.so\n"
      // Abseil: a Status and a Cord count by themselves who shares them.
      "called_from_lib:libabsl_status.so\n"
      "called_from_lib:libabsl_cord.so\n"
      // Abseil: generators of random numbers take their seeds from a pool under a spin lock.
      "called_from_lib:libabsl_random_internal_pool_urbg.so\n"
      // Abseil: the graph in which mutexes look for deadlocks is under a spin lock.
      "called_from_lib:libabsl_graphcycles_internal.so\n"
      // RocksDB: the memtable, the caches and the group of writers are lock-free.
      "called_from_lib:librocksdb.so\n"
      // RocksDB: the batch of a group of writers is cleared by the next leader, with std::string's
      // code, which belongs to everybody.
      "race:rocksdb::WriteBatch::Clear\n"
      // RocksDB: an environment that wraps another (in tests) jumps into the library, which locks,
      // and jumps out of it into unlock(): only that seems to be called by us.
      "mutex:rocksdb::EnvWrapper\n";
}
