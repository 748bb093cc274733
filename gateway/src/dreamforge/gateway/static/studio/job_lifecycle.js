"use strict";
// By event of a job: the status after it (null: as before) and whether the job is over. The gateway puts the shared
// fold of dreamforge.contracts.jobs.course in here.
const STATUS_TABLE = "STATUS_TABLE";
const TERMINAL = Object.keys(STATUS_TABLE).filter(name => STATUS_TABLE[name].terminal);
const runs = ({ job }) => ["assigned", "running"].includes(job.status);
const TERMINAL_STATUSES = TERMINAL.map(name => STATUS_TABLE[name].status);
