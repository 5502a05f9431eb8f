// Opens libmesos 1.11.0 and finds its C++ functions by their mangled names: there are no headers to compile against.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <new>
#include <signal.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

// stout's Option<std::string>: state 0 holds a value, 1 holds none.
struct OptionString {
  int state;
  alignas(8) char value[sizeof(std::string)];
  OptionString() : state(1) {}
  explicit OptionString(const char* s) : state(0) { new (value) std::string(s); }
};

[[noreturn]] static void fail(const char* why) {
  fprintf(stderr, "%s\n", why);
  _exit(2);
}

static void* libmesos;

// The caller says as what: symbol<int(void*)>("_ZN...") is a function to call.
template <typename T>
static T* symbol(const char* name) {
  void* address = dlsym(libmesos, name);
  if (!address) fail(dlerror());
  return (T*)address;
}

static void open_libmesos() {
  // The stand-ins first and by path: what is loaded already is not searched for when libmesos asks for it.
  for (const char* lib : {"libpython.so", "libcrypto.so.1.0.0", "libssl.so.1.0.0", "libcurl.so.4"})
    if (!dlopen((std::string(LIBDIR "/") + lib).c_str(), RTLD_NOW | RTLD_GLOBAL)) fail(dlerror());
  libmesos = dlopen(LIBDIR "/libmesos.so", RTLD_LAZY | RTLD_GLOBAL);
  if (!libmesos) fail(dlerror());
}

// process::initialize(delegate, readwrite realm, readonly realm)
static void initialize_libprocess(const OptionString& delegate) {
  OptionString none;
  symbol<bool(const OptionString&, const OptionString&, const OptionString&)>(
      "_ZN7process10initializeERK6OptionINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEES9_S9_")(
      delegate, none, none);
}

// Room for a C++ object of theirs whose size we only know to be smaller.
static char* object() {
  const size_t size = 1 << 16;
  return (char*)memset(aligned_alloc(64, size), 0, size);
}
