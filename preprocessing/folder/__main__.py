from preprocessing.folder.command import main

main()
