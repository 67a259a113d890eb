from preprocessing.folder.command.command import main

main()
