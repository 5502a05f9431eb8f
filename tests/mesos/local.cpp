// mesos-local: one master and AGENTS (default 1) agents in this process, at LIBPROCESS_IP:LIBPROCESS_PORT, their flags
// from MESOS_* variables. The master answers at /master/api/v1 and /master/api/v1/scheduler, agent N at
// /slave(N)/api/v1 and /slave(N)/api/v1/executor, the first one at /api/v1 too.
#include "libmesos.hpp"

int main() {
  open_libmesos();
  initialize_libprocess(OptionString("slave(1)"));  // who gets paths without a process name
  char* flags = object();  // local::Flags; its constructor takes work_dir from TMPDIR
  symbol<void(void*)>("_ZN5mesos8internal5local5FlagsC1Ev")(flags);
  int* num_slaves = (int*)(flags + 40);  // behind the vtable pointer and the string work_dir
  if (*num_slaves != 1) fail("not the libmesos expected");
  if (const char* agents = getenv("AGENTS")) *num_slaves = atoi(agents);

  // launch() asks for a containerizer in "local" mode: no sandbox logs, no exec sessions. Make it ask for a full one.
  uint8_t* launch = symbol<uint8_t>("_ZN5mesos8internal5local6launchERKNS1_5FlagsEPNS_9allocator9AllocatorE");
  uint8_t* is_local = launch + 0x2bd4;  // mov $1,%edx
  if (is_local[0] != 0xba || is_local[1] != 1) fail("not the libmesos expected");
  void* page = (void*)((uintptr_t)is_local & ~4095ul);
  if (mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("can't patch libmesos");
  is_local[1] = 0;
  mprotect(page, 8192, PROT_READ | PROT_EXEC);

  char* pid = object();  // PID<Master>
  ((void* (*)(void*, void*, void*))launch)(pid, flags, nullptr);
  for (;;) pause();
}
