#ifndef LORASC_CFFI_SHIM_H
#define LORASC_CFFI_SHIM_H
#include <ffi.h>

/* libffi's type descriptors are mutable globals, which Swift's strict
   concurrency does not let through; functions that return them are fine. */
static inline ffi_type *lorasc_ffi_type_void(void) { return &ffi_type_void; }
static inline ffi_type *lorasc_ffi_type_sint32(void) { return &ffi_type_sint32; }
static inline ffi_type *lorasc_ffi_type_double(void) { return &ffi_type_double; }
static inline ffi_type *lorasc_ffi_type_pointer(void) { return &ffi_type_pointer; }
static inline ffi_type *lorasc_ffi_type_uint64(void) { return &ffi_type_uint64; }

static inline size_t lorasc_ffi_closure_size(void) { return sizeof(ffi_closure); }
#endif
