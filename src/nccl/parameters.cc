// SPDX-License-Identifier: Apache-2.0
// NCCL's parameter interface (2.30): refused, since the settings here are those of the environment table.
#include "base/log.h"
#include "nccl/shim.h"

using namespace tutti;
using namespace tutti::nccl;

namespace {

constexpr const char* kWhy = "NCCL's parameters do not exist; `tutti env` shows the settings";

}  // namespace

extern "C" {

ncclResult_t ncclParamBind(ncclParamHandle_t*, const char*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetI8(ncclParamHandle_t, int8_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetI16(ncclParamHandle_t, int16_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetI32(ncclParamHandle_t, int32_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetI64(ncclParamHandle_t, int64_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetU8(ncclParamHandle_t, uint8_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetU16(ncclParamHandle_t, uint16_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetU32(ncclParamHandle_t, uint32_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetU64(ncclParamHandle_t, uint64_t*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetStr(ncclParamHandle_t, const char**) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGet(ncclParamHandle_t, void*, int, int*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetParameter(const char*, const char**, int*) { return refuse(__func__, kWhy); }
ncclResult_t ncclParamGetAllParameterKeys(const char***, int*) { return refuse(__func__, kWhy); }

void ncclParamDumpAll() { log_warn(Subsystem::Api, "ncclParamDumpAll: {}", kWhy); }

}  // extern "C"

NCCL_TWIN(ncclParamBind);
NCCL_TWIN(ncclParamGetI8);
NCCL_TWIN(ncclParamGetI16);
NCCL_TWIN(ncclParamGetI32);
NCCL_TWIN(ncclParamGetI64);
NCCL_TWIN(ncclParamGetU8);
NCCL_TWIN(ncclParamGetU16);
NCCL_TWIN(ncclParamGetU32);
NCCL_TWIN(ncclParamGetU64);
NCCL_TWIN(ncclParamGetStr);
NCCL_TWIN(ncclParamGet);
NCCL_TWIN(ncclParamGetParameter);
NCCL_TWIN(ncclParamGetAllParameterKeys);
NCCL_TWIN(ncclParamDumpAll);
