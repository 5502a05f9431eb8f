// mesos-io-switchboard: serves the streams of one exec session (LAUNCH_NESTED_CONTAINER_SESSION) or terminal.
#include "libmesos.hpp"
#include <map>
#include <thread>

static int unblock[2];
static void on_term(int) { (void)!write(unblock[1], "", 1); }

int main(int argc, char** argv) {
  open_libmesos();
  std::map<std::string, std::string> flags;
  for (int i = 1; i < argc; i++) {
    std::string flag = argv[i] + 2;  // behind the two dashes
    size_t eq = flag.find('=');
    flags[flag.substr(0, eq)] = eq == std::string::npos ? "true" : flag.substr(eq + 1);
  }
  auto fd = [&](const char* name) { return atoi(flags[name].c_str()); };

  unsetenv("LIBPROCESS_PORT");  // the agent's
  initialize_libprocess(OptionString());
  struct { int state; int64_t ns; } heartbeat = {1, 0};  // Option<Duration>
  if (flags.count("heartbeat_interval")) heartbeat = {0, (int64_t)(atof(flags["heartbeat_interval"].c_str()) * 1e9)};
  char result[512] = {0};  // Try<Owned<IOSwitchboardServer>>
  symbol<void*(void*, bool, int, int, int, int, int, const std::string&, bool, void*)>(
      "_ZN5mesos8internal5slave19IOSwitchboardServer6createEbiiiiiRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaI"
      "cEEEb6OptionI8DurationE")(
      result, flags["tty"] == "true", fd("stdin_to_fd"), fd("stdout_from_fd"), fd("stdout_to_fd"),
      fd("stderr_from_fd"), fd("stderr_to_fd"), flags["socket_address"], flags["wait_for_connection"] == "true",
      &heartbeat);
  if (*(int*)result != 0) fail("the server did not start");
  void* server = **(void***)(result + 8);

  // The agent sends SIGTERM when the container has ended; a session that nobody connected to must not wait on.
  if (pipe(unblock)) fail("no pipe");
  signal(SIGTERM, on_term);
  std::thread([server] {
    char byte;
    if (read(unblock[0], &byte, 1) == 1)
      symbol<void(void*)>("_ZN5mesos8internal5slave19IOSwitchboardServer7unblockEv")(server);
  }).detach();

  void* future[8] = {0};
  symbol<void*(void*, void*)>("_ZN5mesos8internal5slave19IOSwitchboardServer3runEv")(future, server);
  volatile int* state = (volatile int*)((char*)future[0] + 4);  // 0 pending, 1 ready
  while (*state == 0) usleep(500);
  _exit(*state == 1 ? 0 : 1);
}
