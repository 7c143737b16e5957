"""Packaging: everything it says is read from settings.ini, which nbdev reads too."""

import configparser
import shlex

from setuptools import find_packages, setup

settings = configparser.ConfigParser(delimiters=["="], interpolation=None)
settings.read("settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    url=cfg["git_url"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="MIT",
    keywords=cfg["keywords"],
    packages=find_packages(include=[cfg["lib_name"], cfg["lib_name"] + ".*"]),
    package_data={
        f"{cfg['lib_name']}.nesymres": ["proposer.safetensors", "proposer.json"],
        f"{cfg['lib_name']}.dark_matter": ["universe-*.safetensors"],
    },
    python_requires=">=" + cfg["min_python"],
    install_requires=shlex.split(cfg["requirements"]),
    extras_require={name: shlex.split(cfg[f"{name}_requirements"]) for name in ("dev", "cluster", "digits", "planets")},
    entry_points={
        "console_scripts": shlex.split(cfg["console_scripts"]),
        "nbdev": [cfg["lib_name"] + "=" + cfg["lib_name"] + "._modidx:d"],
    },
    zip_safe=False,
)
