/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "state.h"

#include "base/error.h"
#include "journal/lock.h"
#include "log/log.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* On the journal's thread. */
static void on_event(void *user, enum fw_journal_event event, int64_t value)
{
    (void)user;
    switch (event) {
    case FW_JOURNAL_DOWN:
        FW_LOG(
            FW_EVENT_JOURNAL_DOWN, "the journal cannot be written; the work goes on without it",
            fw_str("error", strerrordesc_np((int)value)));
        break;
    case FW_JOURNAL_UP:
        FW_LOG(FW_EVENT_JOURNAL_UP, "the journal is written again", fw_int("messages", value));
        break;
    case FW_JOURNAL_LOST:
        FW_LOG(
            FW_EVENT_JOURNAL_LOST, "changes that the journal could not take",
            fw_int("changes", value));
        break;
    }
}

static void open_crash(const char *dir, struct fw_state *state)
{
    struct fw_crash_report report;
    fila_error error = FILA_ERROR_INIT;
    if (fw_crash_open(dir, &state->crash, &report, &error) != FILA_OK) {
        state->crash = NULL;
        FW_LOG(
            FW_EVENT_CRASH_RECORD_OFF, "what runs cannot be recorded; the work goes on without it",
            fw_str("error", error.text));
        return;
    }
    if (report.running > 0 || report.suspects > 0 || report.dropped > 0) {
        FW_LOG(
            FW_EVENT_CRASH_SUSPECTS, "the last process ended while messages ran",
            fw_int("running", report.running), fw_int("suspects", report.suspects),
            fw_int("quarantined", report.convicted), fw_int("unreadable", report.dropped));
    }
}

static bool open_journal(const char *dir, struct fw_state *state)
{
    struct fw_journal_report report;
    fila_error error = FILA_ERROR_INIT;
    struct fw_journal_options options = {.dir = dir, .on_event = on_event};
    if (fw_journal_open(&options, &state->journal, &report, &error) != FILA_OK) {
        state->journal = NULL;
        FW_LOG(FW_EVENT_CONFIG_INVALID, error.text, fw_str("key", "state_dir"));
        return false;
    }
    if (report.cut_bytes > 0) {
        FW_LOG(
            FW_EVENT_JOURNAL_CUT, "the journal ended in a record that is not whole: cut there",
            fw_int("bytes", (int64_t)report.cut_bytes), fw_int("messages", report.messages));
    }
    FW_LOG(
        FW_EVENT_JOURNAL_READY, "the journal is read", fw_str("state_dir", dir),
        fw_int("messages", report.messages), fw_int("rebooted", report.rebooted));
    return true;
}

bool fw_state_open(const char *dir, struct fw_state *ret_state)
{
    fila_error error = FILA_ERROR_INIT;
    *ret_state = (struct fw_state){.lock = -1};
    if (dir[0] == '\0') {
        FW_LOG(
            FW_EVENT_STATE_OFF,
            "state_dir is empty: what a killed worker had finished may run again, and a message "
            "that crashes it is not found out",
            fw_str("state_dir", dir));
        return true;
    }
    if (fw_state_lock(dir, &ret_state->lock, &error) != FILA_OK) {
        FW_LOG(FW_EVENT_CONFIG_INVALID, error.text, fw_str("key", "state_dir"));
        return false;
    }
    open_crash(dir, ret_state);
    if (!open_journal(dir, ret_state)) {
        fw_state_close(ret_state);
        return false;
    }
    return true;
}

void fw_state_close(struct fw_state *state)
{
    fw_journal_close(state->journal);
    fw_crash_close(state->crash);
    if (state->lock >= 0) {
        (void)close(state->lock);
    }
    *state = (struct fw_state){.lock = -1};
}
