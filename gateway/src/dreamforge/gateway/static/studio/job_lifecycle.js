"use strict";
// The status of a job after each of its events; an event that is not here changes none.
const JOB_LIFECYCLE = {
  status: { requested: "queued", assigned: "assigned", started: "running", "attempt-failed": "queued",
    succeeded: "succeeded", failed: "failed", cancelled: "cancelled" },
  terminal: ["succeeded", "failed", "cancelled"],
};
