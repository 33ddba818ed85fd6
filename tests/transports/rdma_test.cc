// SPDX-License-Identifier: Apache-2.0
// placeholder
#include "tests/transports/rdma_stage.h"
