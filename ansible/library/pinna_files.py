"""Ansible module: a role's configuration files, all in one round trip.

`template` and `copy` take two for each file, and a round trip is what costs time on a small Pi.
Standard library only: it runs on the target's own Python.
"""

from __future__ import annotations

import base64
import os
import shlex
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pinna_files
short_description: Write configuration files, each whole or not at all
description:
  - Files belong to the user who runs the module, root, and so do folders that are missing (mode 0755).
  - A file that its C(validate) refuses stays what it was, and so do all others of the same task.
  - With C(--check), nothing is written and nothing is validated.
options:
  files:
    type: list
    elements: dict
    required: true
    description: The files.
    suboptions:
      dest: {type: path, required: true, description: Where the file is.}
      content:
        type: str
        required: true
        description: "What is in it, as base64: arguments are logged. Empty: there is to be no such file."
      mode: {type: str, default: "0644", description: Its permissions.}
      validate: {type: str, description: A command that accepts the file; C(%s) is where the new one lies.}
"""

EXAMPLES = r"""
- name: Configure the journal
  pinna_files:
    files:
      - dest: /etc/systemd/journald.conf.d/pinna.conf
        content: "{{ lookup('ansible.builtin.template', 'journald.conf.j2') | b64encode }}"
"""

RETURN = r"""
written: {type: list, returned: always, description: The files that changed, or went.}
"""


class File:
    """One file: what it is to be, and what it is; None: nothing."""

    def __init__(self, given: dict[str, str]) -> None:
        self.path = Path(given["dest"])
        self.content = base64.b64decode(given["content"]) or None
        self.mode = given["mode"]
        self.validate = given["validate"]
        self.before = self.path.read_bytes() if self.path.is_file() else None

    @property
    def differs(self) -> bool:
        return self.before != self.content

    @property
    def diff(self) -> dict[str, str]:
        return {
            "before": (self.before or b"").decode(errors="replace"),
            "after": (self.content or b"").decode(errors="replace"),
            "before_header": str(self.path),
            "after_header": str(self.path),
        }


def prepare(module: AnsibleModule, file: File, folder: Path) -> Path | None:
    """Write the new content into `folder`, and have it validated. Fails the task if that refuses it."""
    if file.content is None:
        return None
    folder.mkdir(mode=0o700)
    path = folder / file.path.name
    path.write_bytes(file.content)
    if file.validate:
        words = [word.replace("%s", str(path)) for word in shlex.split(file.validate)]
        code, out, err = module.run_command(words)
        if code:
            said = (err or out).strip().replace(str(path), str(file.path))
            module.fail_json(msg=f"{file.path} would be invalid, and stays what it was: {said}")
    return path


def put(module: AnsibleModule, file: File, prepared: Path | None) -> None:
    if prepared is None:
        file.path.unlink()
        return
    os.umask(0o022)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)  # a new file is its owner's, until it gets its rights
    module.atomic_move(str(prepared), str(file.path))


def set_rights(module: AnsibleModule, file: File) -> bool:
    """Mode and owner of a file that is there; whether they were others."""
    path = str(file.path)
    changed = module.set_mode_if_different(path, file.mode, False)
    changed = module.set_owner_if_different(path, str(os.geteuid()), changed)
    return bool(module.set_group_if_different(path, str(os.getegid()), changed))


def main() -> None:
    options = {
        "dest": {"type": "path", "required": True},
        "content": {"type": "str", "required": True, "no_log": True},
        "mode": {"type": "str", "default": "0644"},
        "validate": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": options}},
        supports_check_mode=True,
    )
    files = [File(given) for given in module.params["files"]]
    different = [file for file in files if file.differs]
    if not module.check_mode:
        folders = [Path(module.tmpdir) / str(number) for number in range(len(different))]
        prepared = [prepare(module, *each) for each in zip(different, folders, strict=True)]
        for file, path in zip(different, prepared, strict=True):
            put(module, file, path)
    regraded = [file for file in files if file.content and file.path.exists() and set_rights(module, file)]
    written = [str(file.path) for file in files if file in different or file in regraded]
    module.exit_json(changed=bool(written), written=written, diff=[file.diff for file in different])


if __name__ == "__main__":
    main()
