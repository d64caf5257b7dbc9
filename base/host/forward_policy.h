// Chains at the kernel's forward hook whose policy is to drop: what docker, ufw and hardened hosts
// have. Of nf_tables, which is also what the iptables of today write to.
//
// Free function, safe to call from any thread. Reads only; empty where nf_tables cannot be asked.
#ifndef GANTRY_BASE_HOST_FORWARD_POLICY_H_
#define GANTRY_BASE_HOST_FORWARD_POLICY_H_

#include <string>
#include <vector>

namespace gantry::host {

// "TABLE CHAIN", without those of tables whose names begin with "gantry".
// `usable`: nf_tables answered.
std::vector<std::string> DroppingForwardChains(bool* usable);

}  // namespace gantry::host

#endif  // GANTRY_BASE_HOST_FORWARD_POLICY_H_
