// mesos-containerizer launch: what the agent runs first in every container.
#include "libmesos.hpp"

int main(int argc, char** argv) {
  open_libmesos();
  if (argc < 2 || strcmp(argv[1], "launch")) fail("only 'launch' is supported");
  // MesosContainerizerLaunch, laid out by hand: vtable, name, unused base flags, flags at 0xE0 (their base at 0x168).
  char* command = object();
  *(void**)command = symbol<char>("_ZTVN5mesos8internal5slave24MesosContainerizerLaunchE") + 16;
  new (command + 8) std::string("launch");
  symbol<void(void*)>("_ZN5mesos8internal5slave24MesosContainerizerLaunch5FlagsC1Ev")(command + 0xE0);
  char result[512] = {0};  // Try<Warnings>
  symbol<void*(void*, void*, const OptionString&, int, char**, bool, bool)>(
      "_ZN5flags9FlagsBase4loadERK6OptionINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEEiPKPKcbb")(
      result, command + 0x168, OptionString("MESOS_CONTAINERIZER_"), argc - 1, argv + 1, false, false);
  if (*(int*)result != 0) fail("the flags did not load");
  return symbol<int(void*)>("_ZN5mesos8internal5slave24MesosContainerizerLaunch7executeEv")(command);
}
