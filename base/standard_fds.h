// Descriptors 0, 1 and 2 at the start of a program.
//
// A program that was started with one of them closed gets it for the next file or socket that it
// opens: what it prints then goes there, and a child finds that file as its standard stream.
#ifndef GANTRY_BASE_STANDARD_FDS_H_
#define GANTRY_BASE_STANDARD_FDS_H_

namespace gantry {

// Opens /dev/null at each of descriptors 0 to 2 that is closed; where there is no /dev/null,
// something that can be neither read nor written. False: one is still closed.
//
// A program that is linked with this does so by itself before any static object is constructed;
// main() calls it to learn whether that worked, and to be linked with it.
bool OpenStandardFds();

}  // namespace gantry

#endif  // GANTRY_BASE_STANDARD_FDS_H_
