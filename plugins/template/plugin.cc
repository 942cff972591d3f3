/* SPDX-License-Identifier: AGPL-3.0-or-later WITH fila-plugin-exception */
// @NAME@: a handler for fila-worker. Replace what handle does; it may carry any licence.
//
// plugins/README.md of fila-worker explains every part; fila/plugin.h is the whole interface.
#include <fila/plugin.h>

#include <exception>
#include <new>
#include <string>

namespace {

// One instance for each worker thread, so nothing in here needs a lock.
struct Handler {
    std::string greeting;
    std::size_t most;

    explicit Handler(const fila_services *services)
        : greeting(services->option(services, "greeting")->string),
          most(static_cast<std::size_t>(services->option(services, "most")->integer))
    {
    }

    // The verdict: FILA_ACK (done), FILA_RETRY, FILA_REJECT (dead letter), FILA_UNAVAILABLE (a
    // dependency is down), FILA_DEFER (services->complete follows). A message may come twice.
    int handle(const fila_delivery *delivery, const fila_services *services)
    {
        if (delivery->payload_len == 0) {
            services->reason(services, delivery, "the message is empty");
            return FILA_REJECT;
        }
        if (delivery->payload_len > most) {
            services->reason(services, delivery, "the message is over `most`");
            return FILA_REJECT;
        }
        std::string line = greeting + ", " + std::to_string(delivery->payload_len) + " bytes";
        services->log(services, delivery, FILA_LOG_INFO, line.c_str());
        (void)services->counter(services, "bytes", delivery->payload_len);
        return FILA_ACK;
    }
};

// No exception may leave a slot: the worker is C.
int init(const fila_services *services, void **ret_self) noexcept
try {
    *ret_self = new Handler(services);
    return 0;
} catch (const std::exception &e) {
    services->reason(services, nullptr, e.what());
    return 1;
}

int handle(void *self, const fila_delivery *delivery, const fila_services *services) noexcept
try {
    return static_cast<Handler *>(self)->handle(delivery, services);
} catch (const std::exception &e) {
    services->reason(services, delivery, e.what());
    return FILA_RETRY;
}

void close(void *self) noexcept
{
    delete static_cast<Handler *>(self);
}

// Checked and printed by the worker: what reaches init is right.
constexpr fila_option options[] = {
    {"greeting", FILA_OPTION_STRING, 0, "Hello", 0, 0, "What each line begins with."},
    {"most", FILA_OPTION_SIZE, 0, "1MiB", 1, 16777216, "The largest message that is taken."},
};

// A constant: the worker reads it from the file before it runs any code of it.
constexpr fila_plugin describe()
{
    fila_plugin p = FILA_PLUGIN_INIT;
    p.name = "@NAME@";
    p.version = "0.1";
    p.description = "Greets each message.";
    p.options = options;
    p.option_count = FILA_COUNT(options);
    p.init = init;
    p.handle = handle;
    p.close = close;
    return p;
}

} // namespace

FILA_PLUGIN_DEFINE(describe())
