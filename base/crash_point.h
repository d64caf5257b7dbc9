// Places where a test kills the program, to see what a kill -9 at this very step leaves behind, or
// holds it up, to see what happens meanwhile.
//
// A crash point does nothing unless the environment of the program names it:
// GANTRY_CRASH_POINT=bundle.recorded, or bundle.recorded:3 for the third time it is passed. Then
// the process ends there by SIGKILL, with nothing flushed or destroyed. With
// bundle.recorded@/a/file the thread instead makes /a/file.reached and waits until /a/file exists,
// half a minute at most. Costs one comparison of a cached pointer otherwise. Names are
// "<noun>.<step just done>"; integration/crash_test lists them.
//
// Thread-safe.

#ifndef GANTRY_BASE_CRASH_POINT_H_
#define GANTRY_BASE_CRASH_POINT_H_

namespace gantry {

void CrashPoint(const char* name);

}  // namespace gantry

#endif  // GANTRY_BASE_CRASH_POINT_H_
