// SPDX-License-Identifier: Apache-2.0
// The transport of a build without rdma-core's header: there is none, and that is what it says.
#include "transports/rdma/rdma_transport.h"

namespace tutti {

Result<std::shared_ptr<RdmaDevices>> open_rdma_devices(const RdmaSettings& settings) {
  return verbs::library(settings.verbs_library).status();
}
void keep_rdma_devices(RdmaDevices&, const std::vector<std::string>&) {}
const std::vector<RdmaPort>& rdma_ports(const RdmaDevices&) {
  static const auto& none = *new std::vector<RdmaPort>;
  return none;
}
Result<std::unique_ptr<Transport>> RdmaTransport::create(RdmaOptions options) {
  return verbs::library(options.settings.verbs_library).status();
}
Result<TransportLimits> RdmaTransport::limits_for(int, uint64_t, int) {
  return TransportLimits{.channels = INT32_MAX, .capacity = UINT64_MAX, .ll_slots = UINT64_MAX};  // no limit of its own
}

}  // namespace tutti
