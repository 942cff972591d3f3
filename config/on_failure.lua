-- A queue's on_failure script for workers with dead_letter = "broker": the broker runs it for every nack, and it decides
-- whether the message is tried again or moved to the queue's DLQ. Give it when the queue is created:
--
--     fila-worker queue create orders --on-failure config/on_failure.lua
--
-- or by the worker's config, with missing_queue = "create" and on_failure_script = "${file:on_failure.lua}".
--
-- How many attempts a queue's messages have is a setting of the broker, 5 without it, and can be changed at any time:
--
--     fila-worker queue config set attempts:orders 8
--
-- msg.attempts counts deliveries that came back, this one included: failed runs, but also what workers returned unstarted
-- and leases that expired. So it is a bound on failed runs, not their number.

local ATTEMPTS = 5

function on_failure(msg)
  -- A worker gave back what it could not start in time: that says nothing about the message.
  if msg.error == "fila-worker: returned unstarted" then
    return { action = "retry" }
  end
  local attempts = tonumber(fila.get("attempts:" .. msg.queue)) or ATTEMPTS
  if msg.attempts >= attempts then
    return { action = "dlq" }
  end
  return { action = "retry" }
end
