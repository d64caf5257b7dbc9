// The versions of docker's Engine API that our documents follow.
#ifndef GANTRY_BASE_ENGINE_API_VERSION_H_
#define GANTRY_BASE_ENGINE_API_VERSION_H_

namespace gantry::engine {

inline constexpr char kApiVersion[] = "1.51";
inline constexpr char kMinApiVersion[] = "1.24";

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_API_VERSION_H_
