"""A directory of bounded size: full and free again, where this process may mount one."""

import subprocess
import sys
import textwrap


def test_a_volume_runs_full_and_gets_room_again_or_says_why_there_is_none() -> None:
    program = textwrap.dedent("""
        import errno, pathlib, tempfile
        from regather.embedded.bounded_volume import BoundedVolume, MountRefused, private_mounts
        folder = pathlib.Path(tempfile.mkdtemp())
        try:
            private_mounts()
            volume = BoundedVolume(folder / "volume", 4 << 20)
        except MountRefused as error:
            print("refused:", error)
            raise SystemExit
        file = volume.path / "file"
        file.write_bytes(bytes(1 << 20))
        volume.fill()
        try:
            (volume.path / "more").write_bytes(bytes(1 << 20))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            raise AssertionError("it was not full")
        (volume.path / "more").unlink()
        volume.free()
        (volume.path / "more").write_bytes(bytes(1 << 20))
        assert file.read_bytes() == bytes(1 << 20)
        volume.close()
        assert not file.exists()
        print("full and free")
    """)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("full and free") or ("refused: " in said and "may not" in said)
