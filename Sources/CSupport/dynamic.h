/* Symbols of libraries that are looked for at run time. */
#ifndef LORASC_CSUPPORT_DYNAMIC_H
#define LORASC_CSUPPORT_DYNAMIC_H
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

/* *function, a pointer to a function, becomes the symbol's address; false: there is none. */
static inline bool resolve(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  memcpy(function, &symbol, sizeof symbol);
  return symbol != NULL;
}
#endif
